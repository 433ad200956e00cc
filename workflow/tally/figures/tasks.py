"""Accuracy and storage against the number of tasks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, MARKERS, canvas, spread, styled
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = (
    "fine-tuned", "tall-ties", "tall-task-arithmetic", "magnitude-pruning", "consensus-task-arithmetic", "ties",
    "task-arithmetic", "zero-shot",
)  # fmt: skip
STORED = {"fine-tuned": "Fine-tuned", "tall-task-arithmetic": "TALL masks", "task-arithmetic": "one merged model"}


@styled
def tasks(suites: Sequence[tuple[int, pd.DataFrame]]) -> "Figure":
    """Left: normalized test accuracy with 95 % bars; right: storage in Gb. One point per suite, joined where several.

    suites: (number of tasks, frame of `tables.best_rows`) of each suite, in any order.
    """
    suites = sorted(suites, key=lambda pair: pair[0])
    x = [count for count, _ in suites]
    figure, (left, right) = canvas(4.2, 1, 2)
    line = "-" if len(suites) > 1 else "none"

    def series(method: str, column: str) -> list[float]:
        return [float(rows.loc[rows["method"] == method, column].iloc[0]) for _, rows in suites]

    present = [method for method in METHODS if all((rows["method"] == method).any() for _, rows in suites)]
    for axis, column, methods in (
        (left, "normalized", present),
        (right, "gigabits", [m for m in STORED if m in present]),
    ):
        drawn = {method: series(method, column) for method in methods}
        for method, values in drawn.items():
            style = {"color": COLORS[method], "marker": MARKERS[method], "linestyle": line}
            if method == "fine-tuned":
                style |= {"linestyle": (0, (5, 3)), "linewidth": 1.2} if len(suites) > 1 else {}
            axis.plot(x, values, **style)
            if column == "normalized":
                axis.vlines(
                    x,
                    series(method, "normalized_low"),
                    series(method, "normalized_high"),
                    color=COLORS[method],
                    linewidth=1,
                )
        span = max(map(max, drawn.values())) - min(0 if column == "gigabits" else min(map(min, drawn.values())), 1e9)
        places = spread([values[-1] for values in drawn.values()], 0.058 * (span or 1))
        for method, place in zip(drawn, places, strict=True):
            text = STORED[method] if column == "gigabits" else LABELS[method]
            axis.annotate(
                text, (x[-1], place), xytext=(9, 0), textcoords="offset points", va="center", color=COLORS[method],
                annotation_clip=False,
            )  # fmt: skip
        axis.set_xticks(x)
        axis.set_xlabel("number of tasks")
        axis.margins(x=0.08)
        axis.grid(axis="y")
    left.set_title("Accuracy")
    left.set_ylabel("normalized test accuracy, %")
    right.set_title("Storage")
    right.set_ylabel("Gb (10⁹ bits)")
    right.set_ylim(bottom=0)
    return figure
