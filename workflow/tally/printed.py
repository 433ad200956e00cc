"""What the paper printed: a model's rows for a suite of tasks. The numbers are in resources/paper."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tally.errors import TallyError
from tally.files import read_json


class Printed(NamedTuple):
    """A row as printed: percent, percent, gigabits; None where nothing is."""

    absolute: float | None
    normalized: float | None
    gigabits: float | None


def printed(path: Path, model: str, tasks: Iterable[str]) -> tuple[dict[str, Printed], str]:
    """The paper's rows {method: Printed} for a model and a suite of tasks, and where they were read.

    DTD-leaky stands for DTD: the paper's checkpoints are those of the leak. Raises TallyError where it has no such table.
    """
    record = read_json(path)
    ours = {"DTD" if task == "DTD-leaky" else task for task in tasks}
    tables = record["tables"].get(model, {})
    for size, rows in tables.items():
        if size != "source" and set(record["tasks"][: int(size)]) == ours:
            return {method: Printed(*row) for method, row in rows.items()}, tables["source"]
    raise TallyError(
        f"{path} has no table of {model} with these {len(ours)} tasks; it has {', '.join(record['tables'])}"
    )


def has_table(path: Path, model: str, tasks: Iterable[str]) -> bool:
    """Whether the paper has a table of this model and these tasks."""
    try:
        printed(path, model, tasks)
    except TallyError:
        return False
    return True
