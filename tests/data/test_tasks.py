"""The table of tasks: names, classes, suites."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tally.data import corpora, tasks
from tally.data.task import Task, contents
from tally.data.tasks import SUITES, TASKS, task
from tally.errors import TallyError


@pytest.mark.parametrize(
    ("name", "first"),
    [("mini", ("mnist", "digits", "fashion", "emoji")), ("vision", ("Cars", "DTD", "EuroSAT", "GTSRB", "MNIST"))],
)
def test_suites_are_nested_and_in_order(name, first):
    small, middle, large = (SUITES[f"{name}-{n}"] for n in (8, 14, 20))
    assert (len(small), len(middle), len(large)) == (8, 14, 20)
    assert large[:8] == small
    assert large[:14] == middle
    assert set(large) <= set(TASKS)
    assert small[: len(first)] == first


def test_every_task_has_a_name_of_its_own():
    few = {"few-arrows", "few-charts", "few-colors"}
    assert set(TASKS) == {
        *SUITES["mini-20"],
        *SUITES["vision-20"],
        "DTD-leaky",
        *few,
        *SUITES["qa-11"],
        *SUITES["text-14"],
    }
    assert len(TASKS) == 69  # a name that two rows share would leave fewer


@pytest.mark.parametrize("row", [row for row in TASKS.values() if isinstance(row, Task)], ids=lambda row: row.name)
def test_rows_are_complete(row):
    assert TASKS[row.name] is row
    assert row.title
    assert row.license
    assert row.origin
    assert len(set(row.classes)) == len(row.classes) >= 2
    texts = [template.format(name) for template in row.templates for name in row.classes]
    assert row.templates
    assert len(set(texts)) == len(row.templates) * len(row.classes)


def test_two_rows_of_one_name_are_told(monkeypatch):
    monkeypatch.setattr(tasks, "ROWS", (*tasks.ROWS, replace(TASKS["mnist"], title="another")))
    with pytest.raises(TallyError, match="two tasks are called 'mnist': give one of the rows another name"):
        task("mnist")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(TallyError, match=r"unknown task 'mnits': choose one of mnist, digits, .*pies"):
        task("mnits")


def test_changed_files_of_a_row_are_noticed_and_no_others(tmp_path):
    """Whatever a picture's size and date; what lies in packages or is drawn has no files here."""
    shutil.copytree(Path(__file__).parents[2] / "resources" / "data", tmp_path / "data")
    rows = {name: TASKS[name] for name in ("mnist", "emoji", "letters", "digits", "cities", "CIFAR10", "wsc")}
    rows["table"] = replace(
        TASKS["tweets"], source=partial(corpora.table, "mine", {"all": "a.csv"}, "text", "label", {})
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.csv").write_text("text,label\n")
    before = {name: contents(row, tmp_path) for name, row in rows.items()}
    assert {name for name, found in before.items() if found} == {"mnist", "emoji", "table"}
    picture = next((tmp_path / "data" / "emoji" / "train").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    (tmp_path / "mine" / "b.csv").write_text("text,label\n")
    after = {name: contents(row, tmp_path) for name, row in rows.items()}
    assert {name for name in rows if after[name] != before[name]} == {"emoji", "table"}
