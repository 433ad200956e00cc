"""Overview: normalized accuracy of every method."""

from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, INK, MUTED, canvas, styled
from tally.tables import LABELS, group_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = ("one merged model for all tasks", "one model per task", "one mask or sparse task vector per task")


@styled
def overview(rows: pd.DataFrame) -> "Figure":
    """A horizontal bar per method with its 95 % interval and value, grouped by what has to be stored.

    rows: the frame of `tables.best_rows`.
    """
    methods = list(rows["method"])
    y, places = 0.0, []
    for i, method in enumerate(methods):
        if i == 0 or group_of(method) != group_of(methods[i - 1]):
            y += 1.25  # room for the heading of the group
        places.append(y)
        y += 1
    figure, axis = canvas(0.5 + 0.27 * y)
    values, low, high = (rows[column].to_numpy() for column in ("normalized", "normalized_low", "normalized_high"))
    right = max(100.0, high.max()) + 2
    axis.barh(places, values, height=0.72, color=[COLORS[method] for method in methods])
    axis.hlines(places, low, high, color=INK, linewidth=1.2)
    for i, method in enumerate(methods):
        k, place = rows["k"].iloc[i], places[i]
        axis.text(-1, place, LABELS[method] + ("" if pd.isna(k) else f", k = {k}"), ha="right", va="center")
        axis.text(right + 7, place, f"{values[i]:.1f}", ha="right", va="center")
        if i == 0 or group_of(method) != group_of(methods[i - 1]):
            axis.text(0, place - 0.62, GROUPS[group_of(method)], color=MUTED, fontsize=9, va="center")
    axis.axvline(100, color=INK, linestyle=(0, (5, 3)), linewidth=1, zorder=0)
    axis.set_xticks(range(0, 101, 20))
    axis.set_ylim(y - 0.3, 0.2)
    axis.set_xlim(0, right + 7)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("normalized test accuracy, % of the fine-tuned models (line: 95 % interval)")
    return figure
