"""What a change redoes: the exact jobs, after a whole run of a working copy whose rules make empty files."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from workflow_runner import MICRO, ROOT, messages, snakemake

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("increments")]

CONFIG = yaml.safe_load(MICRO.read_text())
TASKS = CONFIG["suites"]["micro"]
CONSENSUS = {"consensus-task-arithmetic", "consensus-ties", "random-consensus"}
ACROSS = {"All suites side by side"}  # where there is more than one
FIGURES = {"overview", "radar", "agreement", "density", "accuracy_vs_k"}


def working_copy(folder: Path) -> Path:
    """This repository in `folder`, its jobs writing their names to `ran`, settings to `how`, and making empty files."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "results", "resources", "tests", "__pycache__"))
    (folder / "resources").symlink_to(ROOT / "resources")
    for path in folder.glob("workflow/rules/*.smk"):
        empty = '    shell:\n        "echo {rule} >> ran; env | grep ^TALLY_ > how; touch {output}"\n'
        path.write_text(re.sub(r'    shell:\n(?: {8}f?".*"\n)+', empty, path.read_text()))
    return folder


def configured(copy: Path, **changes) -> Path:
    """The copy's own config file, with other values."""
    path = copy / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG | changes))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    copy = working_copy(tmp_path_factory.mktemp("copy") / "tally")
    run = snakemake("--cores", "1", "--no-hooks", config=configured(copy), folder=copy)
    assert run.returncode == 0, run.stdout[-3000:]
    return copy


@pytest.fixture
def redone(finished):
    """A function: the messages of the jobs that a changed config, or a changed file, would run."""

    def plan(**changes) -> set[str]:
        run = snakemake("--dry-run", config=configured(finished, **changes), folder=finished)
        assert run.returncode == 0, run.stdout[-3000:]
        return set(messages(run.stdout))

    return plan


def task_jobs(task: str) -> set[str]:
    return {f"Data of {task}: read, bring into the model's form, split", f"Zero-shot head of {task}"} | training_jobs(
        task
    )


def training_jobs(task: str) -> set[str]:
    return {f"Fine-tune on {task}", f"Task vector of {task}"}


def shown(suite: str, figures=FIGURES) -> set[str]:
    tables = {f"Tables of {suite}", f"Storage formats of {suite}"}
    return tables | {f"Figures of {suite}: {figure}" for figure in figures}


def counted(suite: str, methods, ks=(1, 2)) -> set[str]:
    """Consensus vectors and their evaluation."""
    return {
        text
        for k in ks
        for method in methods
        for text in (f"Consensus of {suite}: {method}, k = {k}", f"Evaluate {method} with k = {k} on {suite}")
    }


def masked(suite: str, method: str) -> set[str]:
    return {
        f"TALL masks of {suite} for {method}, lambda per task on validation data",
        f"Votes of the TALL masks of {suite} for {method}, and those of chance",
        f"Bundle {suite} for {method}: base, merged vector and masks in one file",
        f"Bundles of {suite} for {method} in other storage formats: their bits and their models",
    }


def merged(suite: str, *methods: str) -> set[str]:
    return {f"Merge the task vectors of {suite}: {method}" for method in methods}


def evaluated(suite: str, *methods: str) -> set[str]:
    return {f"Evaluate {method} on {suite}" for method in methods}


def suite_jobs(suite: str) -> set[str]:
    """All of a suite: nothing of it belongs to one task."""
    return (
        merged(suite, "task-arithmetic", "ties", "ties-sum")
        | evaluated(suite, "weight-average", "task-arithmetic", "ties")
        | evaluated(suite, "magnitude pruning", "magnitude masking", "magnitude masking-matched")
        | masked(suite, "task-arithmetic")
        | masked(suite, "ties")
        | counted(suite, CONSENSUS)
        | shown(suite)
    )


def test_a_second_run_does_nothing(redone):
    assert redone() == set()


def test_where_and_how_it_runs_is_told_to_the_jobs_and_redoes_nothing(finished, redone):
    told = dict(line.split("=") for line in (finished / "how").read_text().splitlines())
    assert told == {
        "TALLY_DEVICE": "auto", "TALLY_PROCESSES": "1", "TALLY_COMPILE": "0", "TALLY_VERIFY": "1", "TALLY_MINUTES": "10",
        "TALLY_DATA": "data",
    }  # fmt: skip
    assert (
        redone(device="cuda", processes=2, compile=True, verify=False, snapshot_minutes=0.5, data="elsewhere") == set()
    )


def test_a_task_more_is_one_fine_tuning_and_the_suite(redone):
    assert redone(suites={"micro": [*TASKS, "pies"]}) == task_jobs("pies") | suite_jobs("micro")


def test_a_task_less_trains_nothing(redone):
    assert redone(suites={"micro": TASKS[:2]}) == suite_jobs("micro")


def test_another_order_of_the_tasks_does_nothing(redone):
    assert redone(suites={"micro": TASKS[::-1]}) == set()


def test_a_suite_that_shares_its_tasks_trains_nothing_and_leaves_the_others(redone):
    assert redone(suites={"micro": TASKS, "pair": TASKS[:2]}) == suite_jobs("pair") | ACROSS


def test_a_suite_with_a_task_of_its_own_trains_that_one(redone):
    jobs = redone(suites={"micro": TASKS, "other": ["digits", "pies"]})
    assert jobs == suite_jobs("other") | task_jobs("pies") | ACROSS


def test_another_learning_rate_for_one_task_trains_that_task(redone):
    assert redone(tasks={"colors": {"lr": 0.002}}) == training_jobs("colors") | suite_jobs("micro")


def test_another_k_is_its_vectors_and_what_shows_them(redone):
    jobs = redone(merging=CONFIG["merging"] | {"ks": [1, 2, 3]})
    assert jobs == counted("micro", CONSENSUS, ks=[3]) | shown("micro")


def test_another_lambda_grid_starts_at_the_masks(redone):
    jobs = redone(merging=CONFIG["merging"] | {"lambdas": [0.2, 0.4, 0.6]})
    matched = evaluated("micro", "magnitude pruning", "magnitude masking", "magnitude masking-matched")
    masks = masked("micro", "task-arithmetic") | masked("micro", "ties")
    assert jobs == masks | matched | counted("micro", CONSENSUS) | shown("micro")


def test_another_method_is_its_own_jobs_and_what_shows_it(tmp_path):
    copy = working_copy(tmp_path / "tally")
    before = ["task-arithmetic", "tall-ties"]
    assert snakemake("--cores", "1", "--no-hooks", config=configured(copy, methods=before), folder=copy).returncode == 0
    run = snakemake("--dry-run", config=configured(copy, methods=[*before, "consensus-ties"]), folder=copy)
    figures = {"overview", "radar", "agreement", "accuracy_vs_k"}
    assert set(messages(run.stdout)) == counted("micro", {"consensus-ties"}) | shown("micro", figures)


@pytest.fixture
def rewritten(finished):
    """A function that changes a file of the copy for the length of the test."""
    before = {}

    def rewrite(name: str, change) -> None:
        path = finished / "workflow" / name
        before[path] = path.read_text()
        path.write_text(change(before[path]))

    yield rewrite
    for path, text in before.items():
        path.write_text(text)


def test_a_new_row_of_the_registry_is_merged_evaluated_and_shown(rewritten, redone):
    row, place = '    "median": Method("", **_ADD | {"merged": "median"}),\n', '    "ties": Method'
    rewritten("tally/merging/registry.py", lambda text: text.replace(place, row + place, 1))
    name, first = "        - median\n", "        - weight-average"
    rewritten("schemas/config.schema.yaml", lambda text: text.replace(first, name + first, 1))
    assert redone() == merged("micro", "median") | evaluated("micro", "median") | shown("micro")


def test_touched_sources_do_nothing(finished, redone):
    for path in [*finished.glob("workflow/**/*.py"), *finished.glob("workflow/**/*.smk"), finished / "Snakefile"]:
        os.utime(path)
    assert redone() == set()


@pytest.fixture
def edited(rewritten):
    """A function that edits a module of the copy for the length of the test."""
    return lambda name: rewritten(f"tally/{name}.py", lambda text: text + "\nCHANGED = True\n")


def test_other_mathematics_of_ties_redoes_ties_and_what_follows(edited, redone):
    edited("merging/ties")
    assert redone() == (
        merged("micro", "ties", "ties-sum")
        | masked("micro", "ties")
        | counted("micro", {"consensus-ties"})
        | evaluated("micro", "ties")
        | shown("micro")
    )


def test_other_mathematics_of_task_arithmetic_redoes_all_that_adds_task_vectors_up(edited, redone):
    edited("merging/task_arithmetic")
    assert redone() == (
        merged("micro", "task-arithmetic")
        | masked("micro", "task-arithmetic")
        | counted("micro", CONSENSUS - {"consensus-ties"})
        | evaluated("micro", "weight-average", "task-arithmetic")
        | evaluated("micro", "magnitude pruning", "magnitude masking", "magnitude masking-matched")
        | shown("micro")
    )


def test_other_code_of_the_training_trains_nothing(edited, redone):
    edited("finetune")
    assert redone() == set()


def test_a_second_working_copy_trains_nothing(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    ran = []
    for name in ("first", "second"):
        copy = working_copy(tmp_path / name)
        run = snakemake(
            "--cores", "1", "--cache", "--no-hooks", config=configured(copy), folder=copy, SNAKEMAKE_OUTPUT_CACHE=str(cache)
        )  # fmt: skip
        assert run.returncode == 0, run.stdout[-3000:]
        ran.append((copy / "ran").read_text().split())
    trained = {"base", "head", "finetune"}
    assert trained <= set(ran[0])
    assert sorted(ran[1]) == sorted(rule for rule in ran[0] if rule not in trained)
