import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
import tally
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tally import bundle as module
from tally.bundle import fingerprint, open_bundle
from tally.checkpoints import Checkpoint, _header, open_checkpoint, save
from tally.errors import TallyError
from tally.merging import merge
from tally.packing import compress, new_bundle, pack_bundle
from tally.storage import gigabits
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


def test_the_stage_makes_the_same_bundle(tmp_path):
    base, tuned, path = written(tmp_path, lambdas=0.4, embed_base=True)
    vectors = difference(base, tuned)
    merged = merge(vectors, "task-arithmetic", lambdas=0.4)
    save(tmp_path / "merged", vectors.split(merged.vector), "merged")
    save(tmp_path / "masks", dict(zip(vectors.tasks, merged.masks)), "masks", {"strict": False})
    lambdas = dict.fromkeys(tuned, 0.4)
    pack_bundle(tmp_path / "staged", base, tmp_path / "merged", tmp_path / "masks", lambdas, method="task-arithmetic")
    one, other = open_checkpoint(path), open_checkpoint(tmp_path / "staged")
    assert one.names == other.names
    assert all(np.array_equal(one[name], other[name]) for name in one.names)
    assert one.metadata == other.metadata
    with pytest.raises(TallyError, match="'t1' has a mask or a lambda but not both"):
        pack_bundle(tmp_path / "x", base, tmp_path / "merged", tmp_path / "masks", {"t0": 1, "t2": 1}, method="ties")
    with pytest.raises(TallyError, match="mask of 't0' in .* is 2 bytes, not 20"):
        pack_bundle(tmp_path / "x", base, tmp_path / "merged", {"t0": np.zeros(2, np.uint8)}, {"t0": 1}, method="ties")
    with pytest.raises(TallyError, match=r"'v.w' is \[17, 9\] in <base> and \[9, 17\] in "):
        pack_bundle(tmp_path / "x", base, {"v.w": np.zeros((9, 17), "f4")}, tmp_path / "masks", lambdas, method="ties")
    assert not (tmp_path / "x").exists()


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
def test_switch(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("tally.switching.CHUNK", chunk)
    base, _, path = written(tmp_path)
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


def test_bases(tmp_path):
    base, _, path = written(tmp_path)
    with pytest.raises(TallyError, match="does not hold its base; give it"):
        open_bundle(path)["t0"]["v.w"]
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
    for call in (bundle.__getitem__, lambda t: bundle.restore(t, tmp_path / "x"), lambda t: bundle.switch(Model(), t)):
        with pytest.raises(TallyError, match="no task 't9' in .*; it has t0, t1, t2"):
            call("t9")
    with pytest.raises(KeyError):
        bundle["t0"]["nothing"]


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


def test_bad_requests(tmp_path):
    base, tuned = models()
    vectors = difference(base, tuned)

    def fails(message, *args, **options):
        with pytest.raises(TallyError, match=message):
            compress(tmp_path / "b", *args, **options)
        assert list(tmp_path.iterdir()) == []

    fails("unknown method 'tise'; a bundle's is task-arithmetic or ties", vectors, 0.4, method="tise")
    fails("lambda must be numbers of at least 0", vectors, -1)
    fails("lambda must be numbers of at least 0", vectors, float("nan"))
    fails("no lambda for the task 't1'", vectors, {"t0": 0.4})
    fails("lambda for 't7', which is no task here", vectors, {"t0": 1, "t1": 1, "t2": 1, "t7": 1})
    tuned["t1"]["v.w"][3, 3] = float("nan")
    fails("NaN or infinity in tensor 'v.w' of <t1>, at flat index 30", difference(base, tuned), 0.4)


def test_size_is_the_formula(tmp_path):
    base, _, path = written(tmp_path, embed_base=True)
    domain = sum(w.numel() for name, w in base.items() if name.startswith("v."))
    others = sum(w.numel() * w.element_size() for name, w in base.items() if not name.startswith("v."))
    assert sum(w.nbytes for w in open_checkpoint(path).tensors.values()) == 8 * domain + others + 3 * -(-domain // 8)


def test_a_full_size_bundle_is_the_formula_and_a_thousandth(monkeypatch):
    """20 tasks of ViT-B/32's true size; the file's size is known before a byte of it is written."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("benchmark", ROOT / "benchmarks" / "merge.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    shapes, sizes = benchmark.shapes("ViT-B-32"), []
    others = {f"text.{i}": (25_599_489 // 150 + (i < 25_599_489 % 150),) for i in range(150)}
    whole = {name: np.broadcast_to(np.float32(0), shape) for name, shape in {**shapes, **others}.items()}
    base = Checkpoint("<base>", whole, dict.fromkeys(whole, "F32"))

    class Nowhere:
        def __getitem__(self, name):
            return self

        def __setitem__(self, place, values):
            pass

    @contextmanager
    def measured(path, layout, kind, metadata):
        _, _, spans = _header({name: (kind, shape) for name, (kind, shape) in layout.items()}, kind, metadata)
        sizes.append(max(stop for _, stop in spans.values()))
        yield Nowhere()

    monkeypatch.setattr("tally.packing.create", measured)
    monkeypatch.setattr("tally.packing.fingerprint", lambda base: "0" * 64)
    lambdas = {f"a-task-with-a-long-name-{t}": 0.4 for t in range(20)}
    made_from = {"base": "0" * 64, "finetuned": dict.fromkeys(lambdas, "0" * 64)}
    options = {"method": "ties", "strict": False, "embed_base": True, "made_from": made_from}
    with new_bundle("nowhere", base, shapes, lambdas, **options):
        pass
    formula = gigabits("tall-ties", domain_weights=87_849_216, frozen_weights=25_599_489, tasks=20) * 1e9 / 8
    assert formula <= sizes[0] <= formula * 1.001


def test_a_full_disk_leaves_nothing(tmp_path):
    base, tuned = models()
    vectors = difference(base, tuned)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TallyError, match="cannot write .*: File too large"):
            compress(tmp_path / "b", vectors, 0.4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    compress(tmp_path / "b", vectors, 0.4)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(TallyError, match="cannot write"):
            open_bundle(tmp_path / "b", base=base).restore("t0", tmp_path / "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["b"]


def test_no_space_is_said_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(TallyError, match="disk full while writing .*; free some space"):
        compress(tmp_path / "b", difference(*models()), 0.4)
    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys, itertools, pathlib
from tally.bundle import open_bundle
from tally.packing import compress
from tally.vectors import difference
folder = pathlib.Path(sys.argv[1])
vectors = difference(folder / "base.safetensors", {f"t{i}": folder / f"t{i}.safetensors" for i in range(3)})
print("ready", flush=True)
for i in itertools.count():
    compress(folder / "out" / f"b{i}", vectors, 0.4, embed_base=True)
    open_bundle(folder / "out" / f"b{i}").restore("t1", folder / "out" / f"m{i}")
"""


def test_killed_at_any_moment_only_whole_files_have_their_name(tmp_path):
    _, _, path = written(tmp_path, embed_base=True)
    expected = open_bundle(path)
    rng, seen = np.random.default_rng(0), 0
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, env=os.environ | {
            "PYTHONPATH": os.path.dirname(os.path.dirname(tally.__file__)), "OMP_NUM_THREADS": "1"
        })  # fmt: skip
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        for file in (tmp_path / "out").glob("[bm]*") if (tmp_path / "out").exists() else []:
            if file.name.startswith("b"):
                found = open_bundle(file).file
                assert all(np.array_equal(found[name], expected.file[name]) for name in found.names)
            else:
                found = open_checkpoint(file)
                assert all(np.array_equal(found[name], expected.weight("t1", name)) for name in found.names)
            seen += 1
            file.unlink()
    assert seen


def test_tally_is_imported_at_once():
    code = "import sys, tally; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {
        "PYTHONPATH": os.path.dirname(os.path.dirname(tally.__file__))
    })  # fmt: skip
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(tally, "nothing")  # noqa: B009
