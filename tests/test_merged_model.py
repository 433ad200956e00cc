import os
import resource

import numpy as np
import pytest
import torch
from tally import merged_model as module
from tally.bundle import open_bundle
from tally.checkpoints import open_checkpoint
from tally.errors import TallyError
from tally.masks import unpack
from tally.merged_model import write_merged
from tally.merging import METHODS, magnitude, merge, method, random_consensus
from tally.packing import compress
from tally.vectors import difference
from test_bundle import TORCH, models

ALPHA = 0.7


def tau(vectors, name, task):
    """What alpha scales, dense."""
    row = method(name)
    merged = merge(vectors, row.merged, lambdas=0.4)
    t = vectors.tasks.index(task) if task else None
    if name.startswith("tall"):
        return np.where(unpack(merged.masks, vectors.size)[t], merged.vector, 0)
    if name == "magnitude-masking":
        return np.where(unpack(magnitude(vectors, keep=0.1), vectors.size)[t], merged.vector, 0)
    if name == "magnitude-pruning":
        return np.where(unpack(magnitude(vectors, keep=1 / 3), vectors.size)[t], vectors.task(t), 0)
    if name == "random-consensus":
        return random_consensus(merged.vector, merged.votes, 2, 3, vectors, seed=5)
    return np.where(merged.votes >= (2 if row.has_k else 0), merged.vector, 0)


@pytest.mark.parametrize("dtype", TORCH)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_equals_its_dense_form(tmp_path, monkeypatch, name, dtype):
    monkeypatch.setattr(module, "CHUNK", 16)
    row, (base, tuned) = method(name), models(dtype=dtype)
    task = "t1" if row.per_task else None
    vectors = difference(base, tuned)
    write_merged(tmp_path / "m", vectors, name, alpha=ALPHA, k=2 if row.has_k else None, task=task, seed=5)
    found = open_checkpoint(tmp_path / "m")
    assert found.names == sorted(base)
    part = vectors.split(np.float32(ALPHA) * tau(vectors, name, task))
    for weight in found.names:
        theta = base[weight]
        if weight in part:
            expected = np.asarray(theta.float().numpy() + part[weight])
            expected = torch.from_numpy(expected).to(TORCH[dtype]).float().numpy()
            np.testing.assert_array_equal(found.float32(weight), expected)  # as numbers: -0 is 0
        elif dtype != "BF16" or weight == "steps":
            np.testing.assert_array_equal(found[weight], theta.numpy())
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("name", METHODS)
def test_no_method_depends_on_chunk_or_threads(tmp_path, name):
    row, vectors = method(name), difference(*models())
    options = {"alpha": ALPHA, "k": 2 if row.has_k else None, "task": "t1" if row.per_task else None}
    write_merged(tmp_path / "one", vectors, name, **options)
    write_merged(tmp_path / "two", vectors, name, **options, chunk=8, threads=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("name", [name for name in METHODS if method(name).per_task])
def test_no_mask_is_held_in_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr("tally.masks.outputs", None)
    write_merged(tmp_path / "m", difference(*models()), name, alpha=ALPHA, task="t1")


@pytest.mark.parametrize("masks", ["task-arithmetic", "ties"])
def test_a_masked_model_is_what_a_bundle_restores(tmp_path, masks):
    base, tuned = models()
    vectors = difference(base, tuned)
    compress(tmp_path / "b", vectors, {"t0": 0.2, "t1": 0.4, "t2": 0.6}, method=masks)
    open_bundle(tmp_path / "b", base=base).restore("t2", tmp_path / "restored")
    lambdas = {"t0": 0.2, "t1": 0.4, "t2": 0.6}
    write_merged(tmp_path / "merged", vectors, f"tall-{masks}", alpha=1.0, lambdas=lambdas, task="t2")
    one, other = open_checkpoint(tmp_path / "restored"), open_checkpoint(tmp_path / "merged")
    assert all(np.array_equal(one[name], other[name]) for name in base)


def test_limits_of_k(tmp_path):
    base, tuned = models()
    vectors = difference(base, tuned)
    write_merged(tmp_path / "all", vectors, "consensus-ties", alpha=1, k=0)
    write_merged(tmp_path / "plain", vectors, "ties-sum", alpha=1)
    write_merged(tmp_path / "none", vectors, "consensus-ties", alpha=1, k=4)
    one, other, none = (open_checkpoint(tmp_path / name) for name in ("all", "plain", "none"))
    assert all(np.array_equal(one[name], other[name]) for name in base)
    assert all(np.array_equal(none[name], base[name].numpy()) for name in base)


def test_bad_requests(tmp_path):
    vectors = difference(*models())

    def fails(message, *args, **options):
        with pytest.raises(TallyError, match=message):
            write_merged(tmp_path / "m", vectors, *args, **{"alpha": 1.0} | options)
        assert list(tmp_path.iterdir()) == []

    fails("unknown method 'tise'; known are weight-average, task-arithmetic", "tise")
    fails("makes a model for each task; choose one of t0, t1, t2 with --task", "tall-ties")
    fails("makes one model for all tasks; leave out --task", "ties", task="t0")
    fails("no task 't9' among", "tall-ties", task="t9")
    fails("consensus-ties needs k", "consensus-ties")
    fails("ties takes no k", "ties", k=2)
    fails("k is 5; with 3 tasks it is a whole number from 0", "consensus-ties", k=5)
    fails("k is -1; with 3 tasks", "random-consensus", k=-1)
    fails("alpha is nan", "ties", alpha=float("nan"))
    fails("lambda must be numbers of at least 0", "consensus-ties", k=2, lambdas=-1.0)
    fails("keep is 2; it is a share", "ties", keep=2)
    fails("a weight is too large for F32, or no number", "ties", alpha=1e38)


def test_a_full_disk_leaves_nothing(tmp_path):
    vectors, limits = difference(*models()), resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (100, 1000):  # the scratch file; the model
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(TallyError, match="cannot write .*File too large"):
                write_merged(tmp_path / "m", vectors, "ties", alpha=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == []
