import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tally
from hypothesis import given
from hypothesis import strategies as st
from tally.bundle import open_bundle
from tally.checkpoints import Checkpoint, open_checkpoint, save
from tally.errors import TallyError
from tally.merging import merge
from tally.models.architecture import architecture, shapes, text_transformer
from tally.packing import WIDEST, compress, pack_bundle
from tally.storage import gigabits
from tally.vectors import difference
from test_bundle import models, written


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


@given(kept=st.integers(0, 10**12), others=st.integers(0, 10**12))
def test_no_density_is_wider_than_its_place(kept, others):
    assert len(repr(kept / max(kept + others, 1))) <= len(repr(WIDEST))


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


def test_a_full_size_bundle_is_the_formula_and_a_thousandth(tmp_path):
    """A real file of a gigabyte, 20 tasks of ViT-B/32's true shapes; every tensor repeats one value."""
    every = shapes(architecture("ViT-B-32"))
    stored = {name: shape for name, shape in every.items() if not text_transformer(name)}
    tower = {name: shape for name, shape in stored.items() if name.startswith("visual.")}

    def repeated(value, shapes):
        return {name: np.broadcast_to(value, shape) for name, shape in shapes.items()}

    lambdas = {f"a-task-with-a-long-name-{t}": 0.4 for t in range(20)}
    base, merged = repeated(np.float32(0.5), stored), repeated(np.float32(0.25), tower)
    masks = repeated(np.uint8(0b11010000), dict.fromkeys(lambdas, (87_849_216 // 8,)))
    made_from = {"base": "0" * 64, "finetuned": dict.fromkeys(lambdas, "0" * 64)}
    path = tmp_path / "bundle"
    base = Checkpoint("<base>", base, dict.fromkeys(base, "F32"))  # as_checkpoint would write the values out
    pack_bundle(path, base, merged, masks, lambdas, method="ties", made_from=made_from)
    formula = gigabits("tall-ties", domain_weights=87_849_216, frozen_weights=25_599_489, tasks=20) * 1e9 / 8
    assert formula <= path.stat().st_size <= formula * 1.001
    bundle = open_bundle(path)
    assert bundle.metadata["densities"] == dict.fromkeys(lambdas, 3 / 8)
    assert bundle.weight(bundle.tasks[-1], "visual.proj")[-1, -8:].tolist() == [0.75, 0.75, 0.5, 0.75] + 4 * [0.5]
    path.unlink()  # pytest keeps what tests write


@pytest.mark.parametrize("codec", ["packed", "zstd"])
def test_a_full_disk_leaves_nothing(tmp_path, codec):
    base, tuned = models()
    vectors = difference(base, tuned)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (30, 300, 1000):  # of zstd: a scratch file, the frames, the bundle
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(TallyError, match="cannot write .*: File too large"):
                compress(tmp_path / "b", vectors, 0.4, mask_codec=codec)
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
    print("bundle", flush=True)
    open_bundle(folder / "out" / f"b{i}").restore("t1", folder / "out" / f"m{i}")
    print("model", flush=True)
"""


def test_killed_at_any_moment_only_whole_files_have_their_name(tmp_path):
    _, _, path = written(tmp_path, embed_base=True)
    expected = open_bundle(path)
    rng, seen = np.random.default_rng(0), 0
    for done in (0, 1, 2, 3, 0, 1, 2, 3):  # files that are written first: however slow the disk is, some are there
        child = subprocess.Popen([sys.executable, "-c", CHILD, tmp_path], stdout=subprocess.PIPE, env=os.environ | {
            "PYTHONPATH": os.path.dirname(os.path.dirname(tally.__file__)), "OMP_NUM_THREADS": "1"
        })  # fmt: skip
        assert child.stdout.readline() == b"ready\n"
        started = time.perf_counter()
        for _ in range(done):
            child.stdout.readline()
        each = (time.perf_counter() - started) / done if done else 0.02
        time.sleep(rng.uniform(0, each))  # somewhere within the next one
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
    assert seen >= 12
