"""The plan, without running it."""

import pytest
import yaml
from tally.data.tasks import SUITES
from workflow_runner import MICRO, ROOT, planned, snakemake, with_config

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


def plan(results, **config):
    return snakemake("--dry-run", config=with_config(results, **config))


def test_the_embedded_default_plans_the_whole_paper(empty):
    run = snakemake("--dry-run", "--config", f"results={empty}", config=None)
    assert run.returncode == 0, run.stdout
    assert planned(run.stdout) == {
        "base": 1, "prepare": 8, "head": 8, "finetune": 8, "vector": 8, "merge_vectors": 3, "mask": 2, "vote": 2,
        "consensus": 24, "evaluate": 3, "evaluate_consensus": 24, "magnitude": 3, "table": 1, "figure": 5,
        "bundle": 2, "formats": 2, "storage_table": 1,
    }  # fmt: skip


def test_suites_share_what_belongs_to_one_task(empty):
    run = snakemake("--dry-run", "--config", f"results={empty}", config=ROOT / "config" / "mini-20.yaml")
    jobs = planned(run.stdout)
    assert (jobs["finetune"], jobs["head"], jobs["vector"]) == (20, 20, 20)
    assert jobs["consensus"] == 3 * 3 * 5


def test_configured_suites_are_those_of_the_task_table():
    config = yaml.safe_load((ROOT / "config" / "mini-20.yaml").read_text())
    mini = {name: tasks for name, tasks in SUITES.items() if name.startswith("mini")}
    assert {name: tuple(tasks) for name, tasks in config["suites"].items()} == mini
    assert yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["suites"] == {"mini-8": list(SUITES["mini-8"])}


def test_text_configs_have_the_suites_of_the_task_table_and_one_recipe():
    small, large = (yaml.safe_load((ROOT / "config" / f"text-{n}.yaml").read_text()) for n in ("mini", 14))
    assert {name: tuple(tasks) for name, tasks in large["suites"].items()} == {
        f"text-{n}": SUITES[f"text-{n}"] for n in (8, 14)
    }
    assert small == large | {"suites": {"text-8": list(SUITES["text-8"])}}


def test_ks_and_methods_of_the_config(empty):
    jobs = planned(plan(empty, methods=["task-arithmetic", "consensus-ties", "tall-ties"]).stdout)
    assert (jobs["consensus"], jobs["evaluate"], jobs["mask"]) == (2, 1, 1)
    assert "magnitude" not in jobs


def test_storage_formats_of_the_config(empty):
    jobs = planned(plan(empty, formats=[]).stdout)
    assert jobs["bundle"] == 2
    assert not {"formats", "storage_table"} & set(jobs)
    assert "formats" not in planned(plan(empty, methods=["task-arithmetic"]).stdout)


def test_every_storage_format_is_a_config_away(empty):
    every = yaml.safe_load((ROOT / "config" / "storage.yaml").read_text())
    default = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    assert every["suites"] == default["suites"]
    bases = ("fp32", "fp16", "bf16")
    assert every["formats"] == [f"{b}-{v}-{c}" for b in bases for v in (*bases, "int8") for c in ("packed", "zstd")]
    run = snakemake("--dry-run", "--config", f"results={empty}", config=ROOT / "config" / "storage.yaml")
    assert planned(run.stdout)["formats"] == 2


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"formats": ["fp16-int4-zstd"]}, ["fp16-int4-zstd"]),
        ({"sutes": {}}, ["sutes"]),
        ({"suites": {"micro": ["digits", "mnits"]}}, ["mnits", "mnist", "suite micro"]),
        ({"methods": ["ties", "tie"]}, ["tie"]),
        ({"merging": {"ks": [9]}}, ["k = 9", "micro", "0 to 4"]),
        ({"merging": {"lambdas": [-1]}}, ["-1"]),
        ({"tasks": {"mnist": {"lr": 0.1}}}, ["mnist", "in no suite"]),
        ({"device": "gpu"}, ["gpu", "cuda"]),
        ({"model": "t5-large"}, ["model", "resources/t5-large", "docs/t5.md"]),
        ({"base": {"source": "pip:no_such_one/model"}}, ["base.source", "no_such_one", "make text"]),
        ({"finetune": {"learning_rate": 1}}, ["learning_rate"]),
        ({"model": "mini clip"}, ["mini clip"]),
        ({"suites": {"..": ["digits"]}}, [".."]),
        ({"methods": []}, ["methods"]),
    ],
)
def test_a_mistake_in_the_config_is_one_clear_line(empty, config, words):
    run = plan(empty, **config)
    assert run.returncode != 0
    line = [
        line for line in run.stdout.splitlines() if "config" in line.lower() and all(word in line for word in words)
    ]
    assert line, run.stdout
    assert "Traceback" not in run.stdout


def test_every_key_of_the_schema_is_described():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())

    def keys(node, path):
        for name, value in node.get("properties", {}).items():
            yield f"{path}{name}", value
            yield from keys(value, f"{path}{name}.")

    for name, value in keys(schema, ""):
        assert value.get("description"), name
        assert "default" in value or name == "suites", name


def test_micro_config_names_known_tasks():
    assert yaml.safe_load(MICRO.read_text())["suites"]["micro"]
