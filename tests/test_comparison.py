import json

import numpy as np
import pandas as pd
import pytest
from fake import fake_suite
from tally.checkpoints import save
from tally.cli import main
from tally.comparison import comparison
from tally.printed import Printed
from tally.records import CONSENSUS, load_suite
from tally.statistics import bootstrap, normalized_accuracy
from tally.storage import gigabits
from tally.typeset import show_comparison

COUNTS = {"domain_weights": 87_849_216, "frozen_weights": 25_599_489}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return load_suite(fake_suite(tmp_path_factory.mktemp("paper"), tasks=4, examples=100))


def test_comparison_equals_a_dense_computation(suite):
    samples = bootstrap(suite.hits, resamples=200)
    rows = {
        "ties": Printed(75.0, 81.0, 3.6),
        "consensus-ties": Printed(74.8, None, 3.7),
        "tall-ties": Printed(93.0, 100.3, None),
    }
    table = comparison(suite, samples, COUNTS, rows)
    assert list(zip(table["method"], table["quantity"])) == [
        ("ties", "absolute"), ("ties", "normalized"), ("ties", "gigabits"), ("consensus-ties", "absolute"),
        ("consensus-ties", "gigabits"), ("tall-ties", "absolute"), ("tall-ties", "normalized"),
    ]  # fmt: skip
    for row in table.itertuples():
        name = f"{row.method}-k2" if row.method in CONSENSUS else row.method
        hits = [suite.hits[name][task] for task in suite.tasks]
        p, n = np.array([h.mean() for h in hits]), np.array([len(h) for h in hits])
        ours, error = {
            "absolute": (100 * p.mean(), 100 * np.sqrt((p * (1 - p) / n).sum()) / 4),
            "normalized": (
                100 * normalized_accuracy(suite.accuracy(name), suite.accuracy("fine-tuned")),
                100 * samples[name].std(),
            ),
            "gigabits": (gigabits(row.method, **COUNTS, tasks=4), 0),
        }[row.quantity]
        assert (row.ours, row.error) == (pytest.approx(ours), pytest.approx(error))
        assert row.difference == pytest.approx(ours - row.paper)
        if error:
            assert row.errors == pytest.approx((ours - row.paper) / error)
    assert table.loc[table["quantity"] == "gigabits", "agrees"].tolist() == [True, False]


def test_the_comparison_in_print(suite):
    rows = {"ties": Printed(75.0, 81.0, 3.6), "consensus-ties": Printed(74.8, None, 3.7)}
    table = comparison(suite, bootstrap(suite.hits, resamples=50), COUNTS, rows)
    shown = show_comparison(table, suite.tasks)
    assert [row[0] for row in shown.rows] == ["TIES", "Consensus TIES, k = 2"]
    assert all(len(row) == len(shown.header) == 9 for row in shown.rows)
    assert shown.rows[0][2] == "75.0"
    assert shown.rows[1][5] == ""
    assert shown.bold == {(0, 7)}


@pytest.mark.parametrize(("task", "said"), [("DTD", True), ("DTD-leaky", False)])
def test_the_comparison_says_that_the_papers_textures_leak(suite, task, said):
    table = comparison(suite, bootstrap(suite.hits, resamples=50), COUNTS, {"ties": Printed(75.0, 81.0, 3.6)})
    assert (
        "lifts its fine-tuned mean of 8 tasks by about 2.3 points" in show_comparison(table, ["Cars", task]).note
    ) is said


def test_the_verb_writes_a_table_in_three_forms(tmp_path, capsys):
    folder = fake_suite(tmp_path, tasks=2, examples=20)
    weights = {"visual.w": np.zeros((4, 5), "f4"), "text": np.zeros(7, "f4")}
    save(tmp_path / "base.safetensors", weights, "base")
    save(tmp_path / "vector.safetensors", {"visual.w": weights["visual.w"]}, "task_vector")
    tables = {"fake": {"source": "nowhere", "2": {"ties": [75.0, 81.0, 0.0], "fine-tuned": [90.0, None, 0.0]}}}
    (tmp_path / "paper.json").write_text(json.dumps({"tasks": ["cars", "dtd", "eurosat"], "tables": tables}))
    files = {"folder": folder, "base": tmp_path / "base.safetensors", "vector": tmp_path / "vector.safetensors"}
    files |= {"paper": tmp_path / "paper.json", "output": tmp_path / "tables" / "paper"}
    flags = [word for name, value in files.items() for word in (f"--{name}", str(value))]
    assert main(["compare", *flags, "--tasks", "cars", "dtd", "--candidates", "ties", "task-arithmetic"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("| Method")
    assert "Paper's: nowhere." in said
    assert (tmp_path / "tables" / "paper.md").read_text() in said
    assert (tmp_path / "tables" / "paper.tex").exists()
    table = pd.read_csv(tmp_path / "tables" / "paper.csv")
    assert table["method"].tolist() == ["ties"] * 3 + ["fine-tuned"] * 2
    assert table.loc[table["quantity"] == "gigabits", "agrees"].all()
    assert main(["--quiet", "compare", *flags, "--tasks", "cars", "--candidates", "ties"]) == 2
