"""What a run says that fails: which jobs, why, and what it had to do."""

import os
import re

import pytest
from workflow_runner import snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("kill")]


def test_the_summary_of_a_failed_run_calls_cached_what_was_there(tmp_path):
    store, flags = tmp_path / "mini-clip", ("--cores", "2", "--config", f"results={tmp_path}")
    data = store / "data" / "digits.safetensors"
    made = snakemake(data, store / "base.safetensors", *flags)
    assert made.returncode == 0, made.stdout[-3000:]
    os.truncate(data, data.stat().st_size // 2)
    targets = [store / "finetuned" / f"{task}.json" for task in ("digits", "colors")]
    run = snakemake(*targets, "--keep-going", *flags)
    assert run.returncode != 0
    assert f"head failed; the end of {store}/logs/head/digits.log:" in run.stdout
    table = run.stdout.split("stage ", 1)[1]
    rows = {stage: (int(ran), int(cached)) for stage, ran, cached in re.findall(r"^(\w+) +(\d+) +(\d+) ", table, re.M)}
    # the head of digits failed, and its fine-tuning never started
    assert rows == {"base": (0, 1), "prepare": (1, 1), "head": (1, 0), "finetune": (1, 0)}
