"""The figures, one module each: a function from parsed data to a matplotlib Figure, and `save`.

matplotlib is imported when a figure is drawn, never before.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from tally.errors import TallyError
from tally.figures.accuracy_vs_k import accuracy_vs_k
from tally.figures.agreement import agreement
from tally.figures.density import density
from tally.figures.overview import overview
from tally.figures.radar import radar
from tally.figures.storage import storage
from tally.figures.style import styled
from tally.figures.tasks import tasks
from tally.files import write_bytes
from tally.records import Suite
from tally.statistics import bootstrap
from tally.tables import best_rows, main_table, per_task_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# of one suite; `tasks` takes several, `storage` a table
FIGURES = ("overview", "accuracy_vs_k", "agreement", "density", "radar")

__all__ = ["FIGURES", "accuracy_vs_k", "agreement", "density", "draw", "overview", "radar", "save", "storage", "tasks"]


@styled
def save(figure: "Figure", stem: Path | str) -> "Figure":
    """Write <stem>.pdf and <stem>.png, each whole or not at all. No dates inside: the same data give the same bytes."""
    stem = Path(stem)
    blank = {"pdf": {"CreationDate": None, "Creator": None, "Producer": None}, "png": {"Software": None}}
    for ending, metadata in blank.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=ending, metadata=metadata)
        write_bytes(stem.with_name(f"{stem.name}.{ending}"), buffer.getvalue())
    return figure


def draw(name: str, suite: Suite, seed: int = 0) -> "Figure":
    """One of FIGURES for a suite; seed: of the bootstrap. Raises TallyError when the suite lacks what the figure shows."""
    if name == "agreement":
        if not suite.votes:
            raise TallyError(f"{suite.model}/{suite.name}/votes: no votes file; count the votes first")
        return agreement(suite.votes)
    if name == "radar":
        return radar(per_task_table(suite))
    if name == "density":
        if "task-arithmetic" not in suite.masks:
            raise TallyError(f"{suite.model}/{suite.name}/masks/task-arithmetic.json: not found; make the masks first")
        return density(suite.masks["task-arithmetic"], per_task_table(suite))
    if name not in FIGURES:
        raise TallyError(f"unknown figure {name}; known: {', '.join(FIGURES)}")
    main = main_table(suite, bootstrap(suite.hits, seed=seed))
    return accuracy_vs_k(main) if name == "accuracy_vs_k" else overview(best_rows(main))
