"""The tasks, a row each, and the suites they form. A new data set is a new row, in the file of its benchmark."""

from tally.data import embedded, questions, rehearsal, vision
from tally.data.questions import Questions
from tally.data.task import Task
from tally.errors import TallyError

ROWS: tuple[Task | Questions, ...] = (*embedded.ROWS, *vision.ROWS, *rehearsal.ROWS, *questions.ROWS)
TASKS = {row.name: row for row in ROWS}
SUITES: dict[str, tuple[str, ...]] = {
    f"{name}-{n}": tuple(row.name for row in rows[:n])
    for name, rows in (("mini", embedded.ROWS), ("vision", vision.ROWS))
    for n in (8, 14, 20)
} | questions.SUITES


def task(name: str) -> Task | Questions:
    """The row of that name."""
    if name not in TASKS:
        raise TallyError(f"unknown task '{name}': choose one of {', '.join(TASKS)}")
    return TASKS[name]
