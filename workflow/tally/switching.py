"""Turn a loaded torch model from one task of a bundle into another, in place (`bundle.Bundle.switch`)."""

import numpy as np
import torch
from tally.bundle import CHUNK, Bundle, as_torch, moved
from tally.errors import TallyError

Held = tuple[str, dict[str, tuple]]  # the task a model holds, and the state of its tensors when it was put there


@torch.no_grad()
def switch(bundle: Bundle, model: torch.nn.Module, task: str, held: Held | None) -> Held:
    """Write theta_t into `model`; `held` is what the last call returned for this model. See `Bundle.switch`."""
    tensors = model.state_dict(keep_vars=True)
    for name, shape in bundle.shapes.items():
        if name not in tensors:
            raise TallyError(f"the model has no weight {name!r}, {bundle.file.label} has; pass the model that holds it")
        if tuple(tensors[name].shape) != shape:
            raise TallyError(f"{name!r} is {list(tensors[name].shape)} in the model, {list(shape)} in the bundle")
    known = held is not None and held[1] == _stamps(tensors)
    for name in bundle.shapes if known else [name for name in bundle.base.names if name in tensors]:
        if known and tensors[name].is_contiguous():
            _change(bundle, tensors[name].view(-1), name, held[0], task)
        else:
            tensors[name].copy_(as_torch(bundle.weight(task, name), bundle.base.dtypes[name]))
    return task, _stamps(tensors)


def _stamps(tensors: dict[str, torch.Tensor]) -> dict[str, tuple]:
    """What changes when anything else writes to or replaces a tensor."""
    return {
        name: (tensor.data_ptr(), tensor.dtype, None if tensor.is_inference() else tensor._version)
        for name, tensor in tensors.items()
    }


def _change(bundle: Bundle, flat: torch.Tensor, name: str, old: str, new: str) -> None:
    """Write theta_new into `flat`, which holds theta_old, where the two masks differ."""
    (start, stop), theta = bundle.places[name], bundle.base[name].reshape(-1)
    for lo in range(start, stop, CHUNK):
        hi = min(lo + CHUNK, stop)
        bits = bundle.mask(new, lo, hi)
        here = np.flatnonzero(bits != bundle.mask(old, lo, hi))
        if here.size:
            delta = np.where(bits[here], bundle.file["tau"][lo + here], np.float32(0))
            here += lo - start
            values = as_torch(moved(theta[here], bundle.base.dtypes[name], delta), bundle.base.dtypes[name])
            flat[torch.from_numpy(here).to(flat.device)] = values.to(flat.device, flat.dtype)
