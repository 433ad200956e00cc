"""What profiles/slurm submits: jobs that are worth their start, and that a partition can run."""

from collections import Counter

import pytest
import yaml
from submissions import submissions
from workflow_runner import ROOT, with_config

pytestmark = pytest.mark.workflow

PARTITIONS = yaml.safe_load((ROOT / "profiles" / "slurm" / "partitions.yaml").read_text())["partitions"]
LONGEST = min(limits["max_runtime"] for limits in PARTITIONS.values())
PUBLISHED = ["vit-b-32.yaml", "published/fusionbench-vit-b-32.yaml"]


@pytest.mark.parametrize("configs", [["mini-20.yaml"], ["storage.yaml"], ["vit-b-32.yaml"], PUBLISHED], ids=" ".join)
def test_no_rule_is_submitted_job_by_job_and_every_submission_has_a_partition(tmp_path, configs):
    found = submissions(
        "--configfile", *(ROOT / "config" / name for name in configs), "--config", f"results={tmp_path}"
    )
    alone = Counter((jobs[0].group, jobs[0].rule) for _, jobs in found if len(jobs) == 1)
    assert all(group for group, _ in alone), alone
    assert set(alone.values()) <= {1}, alone  # what is left over when a group is dealt out
    assert max(together.minutes for together, _ in found) <= LONGEST
    assert max(together.gpus for together, _ in found) <= 1


@pytest.mark.parametrize(("config", "parts"), [("mini-20.yaml", 30), ("vit-l-14.yaml", 4)])
def test_groups_as_large_as_the_docs_say_have_a_partition(tmp_path, config, parts):
    found = submissions(
        "--configfile", ROOT / "config" / config, "--config", f"results={tmp_path}", "--group-components",
        "start=4", "vectors=20", f"evaluate={parts}", "report=40",
    )  # fmt: skip
    evaluations = {"evaluate", "evaluate_consensus", "magnitude", "formats"}
    assert max(sum(job.rule in evaluations for job in jobs) for _, jobs in found) == parts
    assert max(together.minutes for together, _ in found) <= LONGEST


def test_a_submission_asks_for_what_its_largest_job_does_and_nothing_is_cut_down(tmp_path):
    config = with_config(tmp_path, device="cuda", processes=4)
    asked = {}
    for together, _ in submissions("--configfile", config, "--set-threads", "consensus=3"):
        asked[together.group] = max((together.cores, together.gpus), asked.get(together.group, (0, 0)))
    assert asked == {"start": (1, 0), "task": (4, 4), "masks": (1, 1), "evaluate": (3, 1), "report": (1, 0)}


def test_a_published_data_set_is_decoded_by_as_many_processes_as_its_rule_asks(tmp_path):
    found = submissions("--configfile", ROOT / "config" / "vit-b-32.yaml", "--config", f"results={tmp_path}")
    assert {together.cores for together, _ in found if together.group == "start"} == {8}


def test_without_masks_a_merge_goes_with_its_evaluation(tmp_path):
    config = with_config(tmp_path, methods=["weight-average", "task-arithmetic", "ties"])
    merges = [jobs for _, jobs in submissions("--configfile", config) if "merge_vectors" in {job.rule for job in jobs}]
    assert {job.rule for jobs in merges for job in jobs} == {"merge_vectors", "evaluate"}
