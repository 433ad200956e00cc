"""A run that is killed at its worst moment loses nothing that was finished."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors import safe_open
from workflow_runner import MICRO, ROOT, snakemake, with_config

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("kill")]

CONFIG = ("suites=" + json.dumps({"micro": ["digits", "colors"]}), 'methods=["task-arithmetic"]')


def test_a_killed_run_resumes_without_losing_finished_work(tmp_path):
    target = tmp_path / "mini-clip" / "micro" / "accuracy" / "task-arithmetic.json"
    flags = ["--cores", "1", "--configfile", str(MICRO), "--config", f"results={tmp_path}", *CONFIG]
    command = [sys.executable, "-m", "snakemake", str(target), *flags]
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    finetuned = tmp_path / "mini-clip" / "finetuned"
    deadline = time.monotonic() + 300
    logs = tmp_path / "mini-clip" / "logs" / "finetune"
    while len(list(logs.glob("*.log"))) < 2 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)  # snakemake and the second fine-tuning
    run.wait()
    done = sorted(finetuned.glob("*.json"))
    assert len(done) == 1, (tmp_path / "log").read_text()[-2000:]

    for path in (tmp_path / "mini-clip").rglob("*.safetensors"):
        if not path.name.startswith("."):
            with safe_open(path, "np") as file:  # whole, or not there under its name
                assert list(file.keys())
    finished = [*(tmp_path / "mini-clip" / "data").glob("*.safetensors"), *done, done[0].with_suffix(".safetensors")]
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert snakemake("--unlock", "--config", f"results={tmp_path}", *CONFIG).returncode == 0
    again = snakemake(target, "--cores", "2", "--config", f"results={tmp_path}", *CONFIG)
    assert again.returncode == 0, again.stdout[-3000:]
    assert target.exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def trains(folder) -> bool:
    """Whether a fine-tuning with its files in `folder` is in its loop: there alone it catches SIGUSR1."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"finetune" in words and any(str(folder).encode() in word for word in words):
                caught = int(re.search(r"SigCgt:\s*(\w+)", (process / "status").read_text())[1], 16)
                return bool(caught >> (signal.SIGUSR1 - 1) & 1)
    return False


def test_a_training_whose_job_is_stopped_goes_on_where_it_was(tmp_path):
    """As SLURM does at the time limit: SIGTERM to every process of the job."""
    config = with_config(tmp_path, finetune={"steps": 80, "batch": 32, "warmup": 2})
    target = tmp_path / "mini-clip" / "finetuned" / "digits.safetensors"
    command = [sys.executable, "-m", "snakemake", str(target), "--cores", "1", "--configfile", str(config)]
    log = tmp_path / "mini-clip" / "logs" / "finetune" / "digits.log"
    with (tmp_path / "log").open("w") as out:
        run = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + 300
    while not trains(tmp_path) and time.monotonic() < deadline:
        assert run.poll() is None, (tmp_path / "log").read_text()[-2000:]
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(timeout=120) == 1
    assert "stopped; the next run goes on" in (tmp_path / "log").read_text()  # Snakemake shows a failed job's log
    assert not target.exists()
    assert len(list(target.with_suffix(".snapshots").iterdir())) == 1
    again = snakemake(target, "--cores", "1", config=config)
    assert again.returncode == 0, again.stdout[-3000:]
    assert "goes on after step" in log.read_text()
    assert sorted(path.name for path in target.parent.iterdir()) == ["digits.json", "digits.safetensors"]
