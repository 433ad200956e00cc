"""Turn a loaded torch model from one task of a bundle into another, in place (`bundle.Bundle.switch`)."""

import torch
from tally.bundle import CHUNK, Bundle, as_torch, masked, moved
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
    (start, stop), theta, dtype = bundle.places[name], bundle.base[name].reshape(-1), bundle.base.dtypes[name]
    for lo in range(start, stop, CHUNK):
        hi = min(lo + CHUNK, stop)
        bits, here = bundle.mask(new, lo, hi), slice(lo - start, hi - start)
        differs = bits != bundle.mask(old, lo, hi)
        if differs.any():
            delta = masked(bundle.tau(name, lo, hi), bits)
            values = as_torch(moved(theta[here], dtype, delta), dtype).to(flat.device, flat.dtype)
            where = torch.from_numpy(differs).to(flat.device)
            flat[here] = torch.where(where, values, flat[here])  # half the weights differ: faster than by index
