"""The table of tasks: names, classes, suites."""

import pytest
from tally.data.task import Task
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


def test_an_unknown_name_lists_the_known():
    with pytest.raises(TallyError, match=r"unknown task 'mnits': choose one of mnist, digits, .*pies"):
        task("mnits")
