"""The tasks, a row each, and the suites they form. A new data set is a new row, in the file of its benchmark."""

from tally.data import embedded, questions, rehearsal, text, vision
from tally.data.questions import Questions
from tally.data.task import Task
from tally.data.text_task import TextTask
from tally.errors import TallyError

Row = Task | Questions | TextTask
ROWS: tuple[Row, ...] = (*embedded.ROWS, *vision.ROWS, *rehearsal.ROWS, *questions.ROWS, *text.ROWS)
TASKS = {row.name: row for row in ROWS}
SUITES: dict[str, tuple[str, ...]] = {
    f"{name}-{n}": tuple(row.name for row in rows[:n])
    for name, rows in (("mini", embedded.ROWS), ("vision", vision.ROWS))
    for n in (8, 14, 20)
}
SUITES |= questions.SUITES | {f"text-{n}": tuple(row.name for row in text.ROWS[:n]) for n in (8, 14)}


def task(name: str) -> Row:
    """The row of that name."""
    if name not in TASKS:
        raise TallyError(f"unknown task '{name}': choose one of {', '.join(TASKS)}")
    if sum(row.name == name for row in ROWS) > 1:
        raise TallyError(f"two tasks are called '{name}': give one of the rows another name")
    return TASKS[name]
