"""The verb as a process: stopped, killed and run again it ends with the bytes of the undisturbed run."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tally.checkpoints import open_checkpoint, save
from tally.cli import main
from workflow_runner import ROOT

STEPS = 300
KILLS_AT_FSYNC = """
import os, signal, sys
from tally.cli import main
left, fsync = [3], os.fsync
def killed(descriptor):
    left[0] -= 1
    os.kill(os.getpid(), signal.SIGKILL) if not left[0] else fsync(descriptor)
os.fsync = killed
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory, tiny_folder):
    """Flags of a small training: 80 pictures in two classes."""
    folder, rng = tmp_path_factory.mktemp("task"), np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        labels = np.arange(80) % 2
        arrays[f"{split}.inputs"] = rng.integers(0, 60, (80, 3, 12, 12), dtype=np.uint8)
        arrays[f"{split}.inputs"][labels == 0, 0] += 150
        arrays[f"{split}.labels"] = labels
    save(folder / "data.safetensors", arrays, "data")
    save(folder / "head.safetensors", {"head": rng.normal(size=(2, 16)).astype(np.float32)}, "head")
    files = {
        "model": tiny_folder / "open_clip_config.json", "base": tiny_folder / "model.safetensors",
        "data": folder / "data.safetensors", "head": folder / "head.safetensors",
    }  # fmt: skip
    options = {"task": "colours", "steps": STEPS, "batch": 32, "lr": 1e-3, "warmup": 5, "precision": "fp32", "device": "cpu"}  # fmt: skip
    return [word for name, value in (files | options).items() for word in (f"--{name}", str(value))]


def flags(task, out, *more):
    return ["finetune", *task, "--output", str(out), "--counts", str(out.with_suffix(".json")), *more]


@pytest.fixture(scope="module")
def undisturbed(task, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "theta.safetensors"
    assert main(flags(task, out)) == 0
    assert sorted(path.name for path in out.parent.iterdir()) == ["theta.json", "theta.safetensors"]
    return out.read_bytes()


def start(task, out, *more, script=None):
    program = ["-m", "tally"] if script is None else ["-c", script]
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, *program, *flags(task, out, *more)], cwd=ROOT / "workflow", stderr=log
        )  # fmt: skip


def said(out) -> str:
    return out.with_suffix(".log").read_text()


def reached(out) -> int:
    """Steps of the newest snapshot."""
    return max((int(path.stem.split("-")[1]) for path in out.with_suffix(".snapshots").glob("step-*")), default=0)


def wait_for(run, out, step):
    deadline = time.monotonic() + 120
    while reached(out) < step and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert run.poll() is None, said(out)


def finish(task, out, undisturbed):
    """Run to the end; what it said."""
    assert start(task, out).wait() == 0, said(out)
    assert out.read_bytes() == undisturbed
    assert json.loads(out.with_suffix(".json").read_text())["task"] == "colours"
    assert not out.with_suffix(".snapshots").exists()
    return said(out)


def test_killed_again_and_again(task, tmp_path, undisturbed):
    out = tmp_path / "theta.safetensors"
    for step in (7, 90, 200):
        run = start(task, out, "--minutes", "0")
        wait_for(run, out, step)
        run.kill()
        run.wait()
        assert not out.exists()
    before = reached(out)
    assert f"goes on after step {before}, " in finish(task, out, undisturbed)


def test_told_to_stop(task, tmp_path, undisturbed):
    out = tmp_path / "theta.safetensors"
    run = start(task, out, "--minutes", "0")
    wait_for(run, out, 5)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    assert "stopped; the next run goes on from" in said(out)
    assert 5 <= reached(out) < STEPS
    assert not out.exists()
    finish(task, out, undisturbed)


def test_killed_while_a_snapshot_is_being_written(task, tmp_path, undisturbed):
    out = tmp_path / "theta.safetensors"
    assert start(task, out, "--minutes", "0", script=KILLS_AT_FSYNC).wait() == -signal.SIGKILL
    left = sorted(path.name for path in out.with_suffix(".snapshots").iterdir())
    assert len(left) == 3
    assert left[0].endswith(".tmp")
    assert "goes on after step 2, " in finish(task, out, undisturbed)


def test_a_damaged_and_a_foreign_snapshot_are_skipped(task, tmp_path, undisturbed):
    out = tmp_path / "theta.safetensors"
    start(task, out, "--minutes", "0", "--seed", "1", script=KILLS_AT_FSYNC).wait()
    os.truncate(out.with_suffix(".snapshots") / "step-00000002.safetensors", 5000)
    notes = finish(task, out, undisturbed)
    assert "step-00000002.safetensors is truncated" in notes
    assert "step-00000001.safetensors is of another training, with other seed; skipped" in notes
    assert "goes on" not in notes


def test_two_processes_told_to_stop(task, tmp_path, undisturbed):
    out = tmp_path / "theta.safetensors"
    run = start(task, out, "--processes", "2", "--minutes", "0")
    wait_for(run, out, 5)
    run.send_signal(signal.SIGTERM)
    assert run.wait() != 0
    before = reached(out)
    assert "stopped; the next run goes on from" in said(out)
    assert 5 <= before < STEPS
    assert not out.exists()
    assert start(task, out, "--processes", "2").wait() == 0, said(out)
    assert said(out).count(f"goes on after step {before}, ") == 1
    (tmp_path / "undisturbed").write_bytes(undisturbed)
    two, one = open_checkpoint(out), open_checkpoint(tmp_path / "undisturbed")
    for name in one.names:
        np.testing.assert_allclose(two[name], one[name], atol=1e-4)


def test_epochs_are_steps_of_whole_batches(task, tmp_path):
    outputs = []
    for name, length in (("epochs", "2"), ("steps", "6")):  # 80 pictures are three batches of 32
        out = tmp_path / f"{name}.safetensors"
        words = flags(task, out, f"--{name}", length)
        at = words.index("--steps")
        assert main(words[:at] + words[at + 2 :]) == 0
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
