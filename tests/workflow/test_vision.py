"""The plans of the paper's vision experiments, without running them."""

import re

import pytest
import yaml
from tally.data.tasks import SUITES
from workflow_runner import ROOT, planned, snakemake

pytestmark = pytest.mark.workflow

CONFIGS = {path.stem: path for path in sorted((ROOT / "config").glob("vit-*.yaml"))}
PUBLISHED = ROOT / "config" / "published"


def plan(results, *configs):
    run = snakemake("--dry-run", "-p", "--configfile", *configs, "--config", f"results={results}", config=None)
    assert run.returncode == 0, run.stdout
    return run.stdout


def length(said, task):
    """How long the fine-tuning of a task is, as its command says."""
    (command,) = re.findall(rf"tally finetune --task {task} .*", said)
    return re.findall(r"--(?:steps|epochs) \w+", command)


def test_the_papers_experiments(tmp_path):
    said = plan(tmp_path, CONFIGS["vit-b-32"])
    jobs = planned(said)
    assert (jobs["base_model"], jobs["finetune"], jobs["head"], jobs["mask"]) == (1, 20, 20, 6)
    assert (jobs["compare"], jobs["table"], jobs["suites"]) == (3, 3, 1)
    assert not {"fetch", "count"} & jobs.keys()
    assert length(said, "Cars") == ["--epochs 35"]


def test_the_authors_checkpoints_in_place_of_training(tmp_path):
    jobs = planned(plan(tmp_path, CONFIGS["vit-l-14"], PUBLISHED / "authors.yaml"))
    assert (jobs["fetch"], jobs["count"], jobs["vector"], jobs["compare"]) == (20, 20, 20, 3)
    assert "finetune" not in jobs


def test_a_task_that_was_not_published_is_trained(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"tasks": {"EMNIST": {"steps": 9}}}))
    said = plan(tmp_path, CONFIGS["vit-b-32"], PUBLISHED / "fusionbench-vit-b-32.yaml", own)
    jobs = planned(said)
    assert (jobs["fetch"], jobs["count"], jobs["finetune"]) == (19, 19, 1)
    assert length(said, "EMNIST") == ["--steps 9"]
    assert "stanford-cars of tanganke/clip-vit-base-patch32_{name}" in said


def test_the_configs_differ_in_the_model_alone():
    configs = [yaml.safe_load(path.read_text()) for path in CONFIGS.values()]
    assert [config["model"] for config in configs] == ["ViT-B-16", "ViT-B-32", "ViT-L-14"]
    vision = {name: list(tasks) for name, tasks in SUITES.items() if name.startswith("vision")}
    for config in configs:
        assert config["suites"] == vision
        assert config["base"]["architecture"] == f"{config['model']}-quickgelu"
        assert config["finetune"].pop("accumulate", 1) == (2 if config["model"] == "ViT-L-14" else 1)
        del config["model"], config["base"]
    assert configs[0] == configs[1] == configs[2]


def test_published_names_are_those_of_the_suites():
    for path in PUBLISHED.glob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        suites = config.get("suites", {name: list(tasks) for name, tasks in SUITES.items() if name == "vision-20"})
        assert config["finetuned"]["names"].keys() <= set(suites["vision-20"])
        assert len(set(suites["vision-20"]) - config["finetuned"]["names"].keys()) <= 1  # EMNIST is not FusionBench's
