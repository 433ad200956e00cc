"""The tasks, a row each, and the suites they form. A new data set is a new row, in the file of its benchmark."""

from tally.data import embedded, rehearsal, vision
from tally.data.task import Task
from tally.errors import TallyError

TASKS: dict[str, Task] = {row.name: row for row in (*embedded.ROWS, *vision.ROWS, *rehearsal.ROWS)}
SUITES: dict[str, tuple[str, ...]] = {
    f"{name}-{n}": tuple(row.name for row in rows[:n])
    for name, rows in (("mini", embedded.ROWS), ("vision", vision.ROWS))
    for n in (8, 14, 20)
}


def task(name: str) -> Task:
    """The row of that name."""
    if name not in TASKS:
        raise TallyError(f"unknown task '{name}': choose one of {', '.join(TASKS)}")
    return TASKS[name]
