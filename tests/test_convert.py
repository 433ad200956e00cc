import collections
import contextlib
import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tally.checkpoints import as_checkpoint, open_checkpoint, save
from tally.convert import convert, load, unpickle
from tally.errors import TallyError

STATE = {
    "w": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "double": torch.tensor([0.1], dtype=torch.float64),
    "steps": torch.tensor(3),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def equal(path, state) -> bool:
    from safetensors.torch import load_file

    found = load_file(path)
    return sorted(found) == sorted(state) and all(
        torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state
    )


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts(tmp_path, wrap, zipped):
    torch.save(wrap(STATE), tmp_path / "old.pt", _use_new_zipfile_serialization=zipped)
    assert convert(tmp_path / "old.pt", tmp_path / "new.safetensors") == "model"
    assert equal(tmp_path / "new.safetensors", STATE)


def test_kinds_that_numpy_lacks(tmp_path):
    eight = torch.tensor([0.5, -2.0, 448.0]).to(torch.float8_e4m3fn)
    torch.save({"eight": eight, "half": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    loaded = load_file(tmp_path / "new.safetensors")
    assert loaded["eight"].dtype == torch.float8_e4m3fn
    assert loaded["eight"].float().tolist() == eight.float().tolist()
    with pytest.raises(TallyError, match=r"'w' in here is torch.sparse_coo; save it as tensor.to_dense"):
        as_checkpoint({"w": torch.eye(3).to_sparse()}, "here")


def test_the_prefix_of_distributed_training_goes(tmp_path):
    torch.save({f"module.{name}": w for name, w in STATE.items()}, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "new")
    assert equal(tmp_path / "new", STATE)


@pytest.mark.parametrize(
    ("dtype", "kind"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)]
)
def test_dtype(tmp_path, dtype, kind):
    torch.save(STATE, tmp_path / "old.pt")
    convert(tmp_path / "old.pt", tmp_path / "new", dtype)
    expected = {name: w.float().to(kind) if w.is_floating_point() else w for name, w in STATE.items()}
    assert equal(tmp_path / "new", expected)
    convert(tmp_path / "new", tmp_path / "again", "fp32")  # safetensors as well
    assert equal(tmp_path / "again", {n: w.float() if w.is_floating_point() else w for n, w in expected.items()})
    with pytest.raises(TallyError, match="unknown dtype 'int4'; known are fp32, fp16, bf16"):
        convert(tmp_path / "old.pt", tmp_path / "x", "int4")
    torch.save({"w": torch.tensor([1e9])}, tmp_path / "big.pt")
    with pytest.raises(TallyError, match="'w' in .*big.pt has NaN, infinity or a value too large for F16"):
        convert(tmp_path / "big.pt", tmp_path / "x", "fp16")
    assert not (tmp_path / "x").exists()


def published(tasks=3, seed=0):
    """A base, and masks over all its float weights as the authors flatten them."""
    rng = np.random.default_rng(seed)
    base = {
        "z.w": np.ones((3, 5), "f4"),
        "a.b": np.ones(7, "f4"),
        "a.count": np.ones(2, "i8"),
        "z.s": np.ones((), "f2"),
    }
    masks = {f"T{t}": {n: rng.random(w.shape) < 0.4 for n, w in base.items() if n != "a.count"} for t in range(tasks)}
    packed = {
        task: np.packbits(np.concatenate([mask[n].reshape(-1) for n in sorted(mask)])) for task, mask in masks.items()
    }
    return base, masks, packed


def as_torch(path, packed):
    with open(path, "wb") as file:  # torch adds no suffix
        torch.save(packed, file)


def as_old_torch(path, packed):
    torch.save(packed, path, _use_new_zipfile_serialization=False)


def as_numpy(path, packed):
    with open(path, "wb") as file:
        np.save(file, packed)


def as_pickle(protocol):
    return lambda path, packed: path.write_bytes(pickle.dumps(collections.OrderedDict(packed), protocol))


WRITERS = [as_torch, as_old_torch, as_numpy, *map(as_pickle, range(2, 6))]


@pytest.mark.parametrize("write", WRITERS)
def test_published_masks(tmp_path, write):
    base, masks, packed = published()
    write(tmp_path / "old.npy", packed)
    assert convert(tmp_path / "old.npy", tmp_path / "new") == "masks"
    found = open_checkpoint(tmp_path / "new")
    assert found.metadata["kind"] == "masks"
    assert found.names == sorted(packed)
    assert all(np.array_equal(found[task], packed[task]) for task in packed)
    convert(tmp_path / "old.npy", tmp_path / "part", base=base, domain=["z.*"])
    found = open_checkpoint(tmp_path / "part")
    for task, mask in masks.items():
        expected = np.packbits(np.concatenate([mask["z.s"].reshape(-1), mask["z.w"].reshape(-1)]))
        np.testing.assert_array_equal(found[task], expected)


def test_masks_of_torch_tensors(tmp_path):
    _, _, packed = published()
    as_torch(tmp_path / "old.npy", {task: torch.from_numpy(mask) for task, mask in packed.items()})
    assert convert(tmp_path / "old.npy", tmp_path / "new") == "masks"


def test_masks_that_do_not_fit(tmp_path):
    base, _, packed = published()
    as_numpy(tmp_path / "old.npy", packed | {"T1": packed["T1"][:-1]})
    with pytest.raises(TallyError, match=r"different lengths: \[2, 3\] bytes"):
        convert(tmp_path / "old.npy", tmp_path / "new")
    as_numpy(tmp_path / "old.npy", packed)
    with pytest.raises(TallyError, match="are 3 bytes, <base> has 40 float weights and needs 5"):
        convert(tmp_path / "old.npy", tmp_path / "new", base=base | {"more": np.ones(17, "f4")})
    packed["T2"][-1] |= 1
    as_numpy(tmp_path / "old.npy", packed)
    with pytest.raises(TallyError, match="mask of 'T2' in .* has bits after its last weight"):
        convert(tmp_path / "old.npy", tmp_path / "new", base=base)
    torch.save(STATE, tmp_path / "old.pt")
    with pytest.raises(TallyError, match="holds weights, not masks; leave out --base"):
        convert(tmp_path / "old.pt", tmp_path / "new", base=base)
    assert not (tmp_path / "new").exists()


def test_dtypes_and_orders_of_arrays():
    rng = np.random.default_rng(0)
    for dtype in ("u1", ">u2", "<i4", "i8", "f2", ">f4", "f8", "?"):
        array = (rng.random((3, 4)) * 100).astype(dtype)
        for protocol in range(2, 6):
            for value in (array, np.asfortranarray(array)):
                found = unpickle(io.BytesIO(pickle.dumps({"a": value}, protocol)))["a"]
                np.testing.assert_array_equal(found, value)
                assert found.dtype == value.dtype


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "wrap", [lambda e: e, lambda e: {"a": e}, lambda e: np.array({"a": e}), lambda e: np.array([e])]
)
@pytest.mark.parametrize("write", [as_torch, as_old_torch, as_numpy, lambda p, v: p.write_bytes(pickle.dumps(v))])
def test_nothing_is_run(tmp_path, monkeypatch, write, wrap):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "old.npy", wrap(Evil()))
    with pytest.raises(TallyError, match=r"posix\.mkdir.*(nothing was loaded|only running its code)"):
        convert(tmp_path / "old.npy", tmp_path / "new")
    assert os.listdir(tmp_path) == ["old.npy"]


def test_whole_modules_are_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(
        TallyError, match="holds a whole pickled module .*save model.state_dict\\(\\) instead"
    ) as caught:
        convert(tmp_path / "module.pt", tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert "torch.nn.modules.linear.Linear" in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    with pytest.raises(TallyError, match="is TorchScript"):
        convert(tmp_path / "script.pt", tmp_path / "new")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "holds a list; a dictionary name -> tensor is needed"),
        ({"epoch": 3}, "has entries that are no tensors, under no state_dict"),
        ({3: torch.ones(2)}, "has names that are no strings"),
        ({}, "has entries that are no tensors"),
    ],
)
def test_not_a_state_dict(tmp_path, value, message):
    torch.save(value, tmp_path / "old.pt")
    with pytest.raises(TallyError, match=message):
        load(tmp_path / "old.pt")


def test_damaged_files(tmp_path):
    torch.save(STATE, tmp_path / "whole.pt")
    as_numpy(tmp_path / "whole.npy", published()[2])
    for name in ("whole.pt", "whole.npy"):
        raw = (tmp_path / name).read_bytes()
        for size in (0, 1, 7, 20, 100, len(raw) // 2, len(raw) - 1):
            (tmp_path / "cut").write_bytes(raw[:size])
            with pytest.raises(TallyError):
                load(tmp_path / "cut")
    np.save(tmp_path / "plain.npy", np.ones(3))
    with pytest.raises(TallyError, match="is one array without a name"):
        load(tmp_path / "plain.npy")
    with pytest.raises(TallyError, match="cannot read .*: No such file"):
        load(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TallyError, match=r"no \*.safetensors in the folder"):
        load(tmp_path / "folder")


def test_hostile_pickles():
    """States that an array cannot have: an error, no crash, no huge allocation."""
    good = pickle.dumps({"a": np.arange(8, dtype="u1")}, 4)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        raw = bytearray(good)
        for place in rng.integers(0, len(raw), rng.integers(1, 4)):
            raw[place] = rng.integers(256)
        with contextlib.suppress(pickle.UnpicklingError):
            unpickle(io.BytesIO(bytes(raw)))
    assert b"numpy" in good
    assert any(op.name == "BUILD" for op, _, _ in pickletools.genops(good))


def test_convert_from_shards(tmp_path):
    save(tmp_path / "in" / "a.safetensors", {"w": np.ones(3, "f4")}, "model")
    save(tmp_path / "in" / "b.safetensors", {"v": np.ones(2, "f2")}, "model")
    convert(tmp_path / "in", tmp_path / "new", "fp16")
    assert open_checkpoint(tmp_path / "new").dtypes == {"v": "F16", "w": "F16"}
