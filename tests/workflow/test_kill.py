"""A run that is killed at its worst moment loses nothing that was finished."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open
from workflow_runner import MICRO, ROOT, snakemake

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
