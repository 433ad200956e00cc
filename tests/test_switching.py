import pytest
import torch
from tally.bundle import open_bundle
from tally.errors import TallyError
from test_bundle import written


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.v = torch.nn.Module(), torch.nn.Module()
        self.text.w = torch.nn.Parameter(torch.zeros(4, 6))
        self.v.w, self.v.bias = torch.nn.Parameter(torch.zeros(17, 9)), torch.nn.Parameter(torch.zeros(5))
        self.v.scale = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.tensor([0]))


def same(model, state) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("chunk", [8, 1 << 20])
@pytest.mark.parametrize("codec", ["packed", "zstd"])
def test_switch(tmp_path, monkeypatch, chunk, codec):
    monkeypatch.setattr("tally.switching.CHUNK", chunk)
    base, _, path = written(tmp_path, mask_codec=codec)
    bundle, model = open_bundle(path, base=base), Model()
    for task in ("t0", "t2", "t1", "t1", "t0"):
        bundle.switch(model, task)
        assert same(model, bundle[task])
    other = Model()  # a second model has its own state
    bundle.switch(other, "t2")
    assert same(other, bundle["t2"])
    assert same(model, bundle["t0"])


def test_switch_touches_only_what_differs(tmp_path):
    base, _, path = written(tmp_path)
    bundle, model = open_bundle(path, base=base), Model()
    bundle.switch(model, "t0")
    start, stop = bundle.places["v.w"]
    differs = torch.from_numpy(bundle.mask("t0", start, stop) != bundle.mask("t1", start, stop))
    assert 0 < differs.sum() < differs.numel()
    model.v.w.data.fill_(123)  # .data: behind the back of the version counters
    bundle.switch(model, "t1")
    assert torch.equal(model.v.w.detach().reshape(-1) == 123, ~differs)


def test_switch_notices_other_writes(tmp_path):
    base, _, path = written(tmp_path)
    bundle, model = open_bundle(path, base=base), Model()
    bundle.switch(model, "t0")
    with torch.no_grad():
        model.v.w.mul_(2)
    bundle.switch(model, "t1")
    assert same(model, bundle["t1"])
    model.v.bias = torch.nn.Parameter(torch.zeros(5))
    bundle.switch(model, "t2")
    assert same(model, bundle["t2"])
    model.half()
    bundle.switch(model, "t0")
    bundle.switch(model, "t2")
    assert torch.equal(model.v.w, bundle["t2"]["v.w"].half())
    with pytest.raises(TallyError, match=r"the model has no weight 'v\.bias'"):
        bundle.switch(torch.nn.Linear(2, 2), "t0")
