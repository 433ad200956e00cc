import json
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import tally
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tally import bundle as module
from tally.bundle import fingerprint, open_bundle
from tally.checkpoints import open_checkpoint, save
from tally.errors import TallyError
from tally.packing import compress
from tally.vectors import difference

SHAPES = {"text.w": (4, 6), "v.bias": (5,), "v.scale": (), "v.w": (17, 9)}
TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def models(tasks=3, seed=0, dtype="F32"):
    """(base, {task: fine-tuned}) of torch tensors: text.* and steps never change, v.* do."""
    rng = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(shape, generator=rng).to(TORCH[dtype]) for name, shape in SHAPES.items()}
    base["v.bias"][0] = -0.0
    tuned = {}
    for t in range(tasks):
        moved = {name: w + (0.1 * torch.randn(w.shape, generator=rng) ** 3).to(w.dtype) for name, w in base.items()}
        tuned[f"t{t}"] = moved | {"text.w": base["text.w"], "steps": torch.tensor([7])}
    return base | {"steps": torch.tensor([7])}, tuned


def dense(base, tuned, lambdas, ties=False, keep=0.2):
    """The restored models, on flat float32 vectors: theta_0 + m_t o tau_mtl."""
    names = [name for name in sorted(SHAPES) if name.startswith("v.")]
    flat = {key: torch.cat([m[n].float().reshape(-1) for n in names]) for key, m in {**tuned, "": base}.items()}
    theta0 = flat.pop("").numpy()
    tau = np.stack([flat[task].numpy() - theta0 for task in sorted(flat)])
    trimmed = tau
    if ties:
        n = tau.shape[1]
        threshold = np.sort(abs(tau), axis=1)[:, n - int(n * keep) - 1 : n - int(n * keep)]
        trimmed = np.where(abs(tau) >= threshold, tau, np.float32(0))
        trimmed = np.where(np.sign(trimmed) == np.sign(trimmed.sum(axis=0)), trimmed, np.float32(0))
    merged = np.zeros_like(theta0)
    for row in trimmed:
        merged += row
    lam = np.float32([lambdas[task] for task in sorted(flat)])[:, None]
    masks = abs(tau) >= lam * abs(merged - tau)
    return names, {task: theta0 + np.where(mask, merged, np.float32(0)) for task, mask in zip(sorted(flat), masks)}


def written(tmp_path, tasks=3, seed=0, dtype="F32", lambdas=0.4, **options):
    base, tuned = models(tasks, seed, dtype)
    save(tmp_path / "base.safetensors", base, "base")
    for task, model in tuned.items():
        save(tmp_path / f"{task}.safetensors", model, "finetuned")
    vectors = difference(tmp_path / "base.safetensors", {t: tmp_path / f"{t}.safetensors" for t in tuned})
    compress(tmp_path / "b.safetensors", vectors, lambdas, **options)
    return base, tuned, tmp_path / "b.safetensors"


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("method", ["task-arithmetic", "ties"])
@pytest.mark.parametrize("chunk", [8, 1 << 20])
def test_restored_equals_the_dense_reference(tmp_path, monkeypatch, dtype, method, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    lambdas = {"t0": 0.3, "t1": 0.4, "t2": 0.6}
    base, tuned, path = written(tmp_path, dtype=dtype, lambdas=lambdas, method=method)
    names, expected = dense(base, tuned, lambdas, method == "ties")
    bundle = tally.open_bundle(path, base=base)
    assert list(bundle) == list(tuned)
    assert len(bundle) == 3
    for task in tuned:
        state = bundle[task]
        assert list(state) == sorted(base)
        assert all(state[name].dtype == base[name].dtype and state[name].shape == base[name].shape for name in base)
        assert torch.equal(state["text.w"], base["text.w"])
        assert torch.equal(state["steps"], base["steps"])
        whole = torch.from_numpy(expected[task]).to(TORCH[dtype])
        assert torch.equal(torch.cat([state[name].reshape(-1) for name in names]), whole)
        bundle.restore(task, tmp_path / "out.safetensors")
        loaded = open_checkpoint(tmp_path / "out.safetensors")
        assert loaded.metadata["task"] == task
        assert loaded.dtypes == open_checkpoint(tmp_path / "base.safetensors").dtypes
        assert all(np.array_equal(loaded[name], bundle.weight(task, name)) for name in base)


def test_restored_files_load_elsewhere(tmp_path):
    from safetensors.torch import load_file

    base, _, path = written(tmp_path, embed_base=True)
    open_bundle(path).restore("t1", tmp_path / "m.safetensors")
    loaded, state = load_file(tmp_path / "m.safetensors"), open_bundle(path)["t1"]
    assert sorted(loaded) == sorted(base)
    assert all(torch.equal(loaded[name], state[name]) for name in base)


@settings(max_examples=20, deadline=None)
@given(
    theta0=arrays(np.float32, 40, elements=st.floats(-4, 4, width=32)),
    theta=arrays(np.float32, 40, elements=st.floats(-4, 4, width=32)),
)
def test_one_task_is_restored_exactly(tmp_path_factory, theta0, theta):
    """Where theta - theta_0 is a float32, to the bit; elsewhere within its rounding, half an ulp of the larger twice."""
    folder = tmp_path_factory.mktemp("one")
    theta[0] = theta0[0] + 1  # something differs
    compress(folder / "b", difference({"w": theta0}, {"t": {"w": theta}}), 0.4, embed_base=True)
    restored = open_bundle(folder / "b").weight("t", "w")
    exact = np.array(
        [
            Fraction(d) == Fraction(a) - Fraction(b)
            for d, a, b in zip(*map(np.ndarray.tolist, (theta - theta0, theta, theta0)))
        ]
    )
    np.testing.assert_array_equal(restored[exact], theta[exact])
    assert (abs(restored - theta) <= np.spacing(np.maximum(abs(theta), abs(theta0)))).all()
    near = (theta0 * theta > 0) & (abs(theta) <= 2 * abs(theta0)) & (abs(theta0) <= 2 * abs(theta))
    assert exact[near].all()  # Sterbenz: fine-tuned weights, as a rule, are restored to the bit


def test_a_weight_outside_the_mask_is_the_bases_to_the_bit(tmp_path):
    base, _, path = written(tmp_path, lambdas=1e9)  # nothing is kept
    state = open_bundle(path, base=base)["t0"]
    assert all(np.array_equal(state[n].numpy().view("i4"), base[n].numpy().view("i4")) for n in SHAPES)


def test_bases(tmp_path):
    base, _, path = written(tmp_path)
    with pytest.raises(TallyError, match="does not hold its base; give it"):
        open_bundle(path)["t0"]
    assert open_bundle(path).get("t9") is None
    assert open_bundle(path).mask("t0", 0, 159).shape == (159,)
    with pytest.raises(TallyError, match="is not the base that .* was made from"):
        open_bundle(path, base=base | {"v.bias": base["v.bias"] + 1})
    with pytest.raises(TallyError, match="is not the base"):
        open_bundle(path, base={name.replace("text", "tset"): w for name, w in base.items()})
    names = list(base)  # the same base in two shards
    save(tmp_path / "shards" / "a.safetensors", {n: base[n] for n in names[:2]}, "base")
    save(tmp_path / "shards" / "b.safetensors", {n: base[n] for n in names[2:]}, "base")
    assert open_bundle(path, base=tmp_path / "shards")["t0"]["v.w"].shape == (17, 9)
    assert fingerprint(tmp_path / "shards") == fingerprint(base)


def test_unknown_task(tmp_path):
    base, _, path = written(tmp_path)
    bundle = open_bundle(path, base=base)
    assert "t9" not in bundle
    assert bundle.get("t9") is None
    for call in (
        bundle.__getitem__,
        lambda t: bundle.restore(t, tmp_path / "x"),
        lambda t: bundle.switch(torch.nn.Linear(1, 1), t),
    ):
        with pytest.raises(TallyError, match="no task 't9' in .*; it has t0, t1, t2"):
            call("t9")
    with pytest.raises(KeyError):
        bundle["t0"]["nothing"]


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "model"}, "is no bundle of format 1 but of kind 'model'"),
        ({"tally_format": "2"}, "is no bundle of format 1"),
        ({"domain": '{"v.w": [3]}'}, "damaged bundle"),
        ({"tasks": '["t0", "t9"]'}, "damaged bundle"),
        ({"lambdas": "{"}, "damaged bundle"),
        ({"base_dtypes": '{"v.w": "I8"}'}, "damaged bundle"),
        ({"base_dtypes": "3"}, "damaged bundle"),
        ({"densities": '{"t0": 0.5}'}, "damaged bundle"),
        ({"densities": '{"t0": 0.5, "t1": 2, "t2": "half"}'}, "damaged bundle"),
    ],
)
def test_damaged_bundles(tmp_path, change, message):
    _, _, path = written(tmp_path, embed_base=True)
    file = open_checkpoint(path)
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["__metadata__"] |= change
    text = json.dumps(header).encode()
    (tmp_path / "bad").write_bytes(len(text).to_bytes(8, "little") + text + bytes(raw[8 + length :]))
    del file
    with pytest.raises(TallyError, match=message):
        open_bundle(tmp_path / "bad")
    (tmp_path / "cut").write_bytes(raw[:-1])
    with pytest.raises(TallyError, match="truncated"):
        open_bundle(tmp_path / "cut")


def test_tally_is_imported_at_once():
    code = "import sys, tally; tally.storage, dir(tally); sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {
        "PYTHONPATH": os.path.dirname(os.path.dirname(tally.__file__))
    })  # fmt: skip
    assert set(tally.__all__) <= set(dir(tally))
    assert tally.storage.gigabits("zero-shot", domain_weights=1, frozen_weights=0, tasks=1) == 32e-9
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(tally, "nothing")  # noqa: B009
