"""The whole engine through torch's operators, with tensors that behave like those of another device."""

import numpy as np
import pytest
import torch
from tally import device, streaming
from tally.errors import TallyError
from tally.merged_model import write_merged
from tally.merging import METHODS, merge, method
from tally.vectors import difference
from test_bundle import models


class Far(torch.Tensor):
    """A tensor that numpy cannot read and that does not mix with tensors of the host."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        if function in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if function is not torch.Tensor.dim:
            given = [x for x in [*args, *(kwargs or {}).values()] if isinstance(x, torch.Tensor) and x.dim()]
            if len({type(x) for x in given}) > 1:
                raise RuntimeError("Expected all tensors to be on the same device")
        return super().__torch_function__(function, types, args, kwargs)


@pytest.fixture
def far(monkeypatch):
    monkeypatch.setattr(device, "put", lambda array: torch.from_numpy(array.copy()).as_subclass(Far))
    monkeypatch.setattr(streaming, "backend", lambda work, place: device)


def test_a_far_tensor_is_like_one_of_a_gpu(far):
    tensor = device.put(np.ones(3, np.float32))
    for mistake in (lambda: np.asarray(tensor), tensor.numpy, lambda: tensor + torch.ones(3)):
        with pytest.raises((TypeError, RuntimeError), match="cuda|device"):
            mistake()
    assert (tensor * 2).cpu().numpy().sum() == 6


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_the_same_bits(tmp_path, request, name):
    base, tuned = models(tasks=4)
    row, vectors = method(name), difference(base, tuned)
    options = {"alpha": 0.7, "k": 2 if row.has_k else None, "task": "t1" if row.per_task else None}
    write_merged(tmp_path / "here", vectors, name, **options)
    request.getfixturevalue("far")
    write_merged(tmp_path / "there", vectors, name, **options)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.parametrize("strict", [False, True])
def test_levels_and_masks_are_the_same(request, strict):
    vectors = difference(*models(tasks=4))
    grids = ([0.2, 0.4, 0.6], {"t0": 0.2, "t1": 0.3, "t2": 0.4, "t3": 0.5})
    here = [merge(vectors, "ties-sum", lambdas=grid, strict=strict) for grid in grids]
    request.getfixturevalue("far")
    there = [merge(vectors, "ties-sum", lambdas=grid, strict=strict) for grid in grids]
    np.testing.assert_array_equal(here[0].levels, there[0].levels)
    for name in ("vector", "masks", "votes"):
        np.testing.assert_array_equal(getattr(here[1], name), getattr(there[1], name))


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", "cuda:99"])
def test_no_such_device(name):
    with pytest.raises(TallyError, match=f"device '?{name}'?"):
        device.use(name)
