"""What only a GPU can show; skipped where there is none. `pytest tests/test_cuda.py` on a machine that has one."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tally.bundle import open_bundle
from tally.evaluate import Examiner, Split
from tally.finetune import finetune
from tally.merged_model import write_merged
from tally.merging import METHODS, merge, method
from tally.models.base import compiled
from tally.prefetch import ahead
from tally.streaming import kth_magnitudes
from tally.vectors import difference
from test_bundle import models, written
from test_finetune import RECIPE, head, image_tower, trained
from test_switching import Model
from workflow_runner import ROOT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@pytest.mark.parametrize("chunk", [64, None])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_the_bits_of_the_cpu(tmp_path, name, chunk):
    base, tuned = models(tasks=5)
    row, vectors = method(name), difference(base, tuned)
    options = {"alpha": 0.7, "k": 2 if row.has_k else None, "task": "t1" if row.per_task else None}
    for device in ("cpu", "cuda"):
        write_merged(tmp_path / device, vectors, name, device=device, chunk=chunk, **options)
    assert (tmp_path / "cuda").read_bytes() == (tmp_path / "cpu").read_bytes()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["task-arithmetic", "ties", "ties-sum"])
def test_levels_masks_votes_and_thresholds_are_the_same(name, strict):
    random = np.random.default_rng(0)
    shape = (300, 700)
    base = {"w": random.standard_normal(shape, np.float32)}
    tuned = {f"t{t}": {"w": base["w"] + random.standard_t(2, shape).astype(np.float32)} for t in range(5)}
    vectors = difference(base, tuned)
    for grid in ([0.2, 0.4, 0.6], {task: 0.3 for task in tuned}):
        here, there = (merge(vectors, name, lambdas=grid, strict=strict, device=device) for device in ("cpu", "cuda"))
        for one, other in zip(here, there):
            np.testing.assert_array_equal(one, other)
    ranks = [1, 777, 100_000, 210_000, 0]
    here, there = (kth_magnitudes(vectors, ranks, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_array_equal(here, there)


def test_training_follows_the_cpu(tiny_weights, tiny_model, colours):
    theta, losses = trained(tiny_weights, tiny_model, colours)
    there, same = trained(tiny_weights, tiny_model, colours, device="cuda")
    np.testing.assert_allclose(same, losses, rtol=1e-3)
    assert all(torch.allclose(there[name], theta[name], atol=1e-3) for name in theta)
    _, pieces = trained(tiny_weights, tiny_model, colours, device="cuda", accumulate=3)
    np.testing.assert_allclose(pieces, losses, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_training_learns_in_every_arithmetic_and_goes_on_where_it_was(tiny_weights, tiny_model, colours, dtype):
    train, states = Split(*colours), []

    def keep(snapshot):
        state = snapshot()
        states.append(state._replace(tensors={name: t.clone() for name, t in state.tensors.items()}))

    base, options = image_tower(tiny_weights), {"seed": 0, "dtype": dtype, "device": "cuda"} | RECIPE
    theta = finetune(base, tiny_model, head(), train, steps=40, keep=keep, **options)
    assert all(w.device.type == "cpu" and w.dtype == torch.float32 for w in theta.values())
    examiner = Examiner(tiny_model, dtype, device="cuda")
    assert examiner.hits(examiner.cast(theta), head(), train).mean() == 1
    again = finetune(base, tiny_model, head(), train, steps=40, start=states[19], **options)
    assert all(torch.allclose(again[name], theta[name], atol=1e-2) for name in theta)


def test_a_compiled_encoder_trains_alike(tiny_weights, tiny_model, colours):
    _, losses = trained(tiny_weights, tiny_model, colours, device="cuda")
    _, same = trained(tiny_weights, compiled(tiny_model), colours, device="cuda")
    np.testing.assert_allclose(same, losses, rtol=1e-3)


def test_hits_are_those_of_the_cpu(tiny_weights, tiny_model, colours):
    here, there = Examiner(tiny_model, batch=10), Examiner(tiny_model, batch=10, device="cuda")
    weights, split = image_tower(tiny_weights), Split(*colours)
    margins = [e.margins(e.cast(weights), split.inputs, [(head(), split.labels)]) for e in (here, there)]
    assert torch.allclose(*margins, atol=1e-3)
    clear = margins[0].abs() > 1e-3
    found = [e.hits(e.cast(weights), head(), split)[clear.numpy()] for e in (here, there)]
    np.testing.assert_array_equal(*found)


def test_batches_that_are_copied_ahead_are_whole_and_in_order():
    """Each is overwritten by the next if its memory is given back too early; the GPU is kept busy so that it would show."""
    work = torch.randn(2048, 2048, device="cuda")
    made = (torch.full((1 << 20,), float(n)) for n in range(50))
    sums = []
    for batch in ahead(made, "cuda", lambda batch, move: move(batch)):
        work = (work @ work).clamp(-1, 1)
        sums.append(batch.double().sum())
    assert [int(total) >> 20 for total in sums] == list(range(50))


def test_a_bundle_switches_a_model_on_the_gpu(tmp_path):
    base, _, path = written(tmp_path)
    bundle, model = open_bundle(path, base=base), Model().cuda()
    for task in ("t0", "t2", "t1", "t1", "t0"):
        bundle.switch(model, task)
        assert all(tensor.is_cuda for tensor in model.state_dict().values())
        assert all(torch.equal(tensor.cpu(), bundle[task][name]) for name, tensor in model.state_dict().items())


def test_a_job_waits_for_the_gpu_that_another_holds():
    code = "import sys; from tally.accelerators import take; print(take('cuda:0'), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command, cwd=ROOT / "workflow", **pipes)
    assert first.stdout.readline() == "cuda:0\n"
    second = subprocess.Popen(command, cwd=ROOT / "workflow", **pipes)
    assert second.stderr.readline() == "note: waits for 1 free of 1 devices\n"
    assert second.poll() is None
    first.communicate()
    assert second.communicate()[0] == "cuda:0\n"
