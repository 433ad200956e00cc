"""What the masks of the tasks cost and what they bring back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, MARKERS, MUTED, canvas, styled
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def density(masks: Mapping, per_task: pd.DataFrame) -> "Figure":
    """Top: test accuracy of each task restored by its mask, over fine-tuned; below: share of weights the mask keeps.

    masks: the masks file of a merge method; per_task: the frame of `tables.per_task_table`.
    """
    merge, tasks = masks["method"], list(per_task.columns[2:])
    accuracy = per_task.set_index("method")[tasks]
    x = range(len(tasks))
    figure, (top, bottom) = canvas(4.8, 2, sharex=True, height_ratios=(1.25, 1))
    top.axhline(100, color=COLORS["fine-tuned"], linestyle=(0, (5, 3)), linewidth=1)
    for method in (f"tall-{merge}", merge):
        if method in accuracy.index:
            ratio = 100 * accuracy.loc[method] / accuracy.loc["fine-tuned"]
            top.plot(
                x,
                ratio,
                linestyle="none",
                marker=MARKERS[method],
                markersize=7,
                color=COLORS[method],
                label=LABELS[method],
            )
    top.set_ylabel("accuracy,\n% of fine-tuned")
    top.grid(axis="y")
    top.margins(y=0.1)
    figure.legend(loc="outside upper right", ncols=2)
    kept = [100 * masks["tasks"][task]["density"] for task in tasks]
    bottom.bar(x, kept, width=0.65, color=COLORS[f"tall-{merge}"], alpha=0.85)
    for i, share in enumerate(kept):
        bottom.text(i, share, f"{share:.0f}", ha="center", va="bottom", fontsize=8.5, color=MUTED)
    bottom.set_ylabel("weights kept\nby the mask, %")
    bottom.set_ylim(0, 1.15 * max(kept))
    many = len(tasks) > 8
    bottom.set_xticks(x, tasks, rotation=40 if many else 0, ha="right" if many else "center", rotation_mode="anchor")
    if not many:
        bottom.tick_params(axis="x", labelsize=9)
    bottom.margins(x=0.02)
    return figure
