"""Radar of the absolute accuracy per task."""

import math
from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, FAINT, MARKERS, canvas, styled
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = ("fine-tuned", "tall-task-arithmetic", "consensus-task-arithmetic", "ties", "task-arithmetic", "zero-shot")


@styled
def radar(per_task: pd.DataFrame) -> "Figure":
    """One polygon per method, one spoke per task, radius = test accuracy in percent.

    per_task: the frame of `tables.per_task_table`, consensus at the k chosen on validation data.
    """
    tasks = list(per_task.columns[2:])
    angles = [2 * math.pi * i / len(tasks) for i in range(len(tasks))]
    figure, axis = canvas(6.6, subplot_kw={"projection": "polar"})
    axis.set_theta_zero_location("N")
    axis.set_theta_direction(-1)
    for method in METHODS:
        rows = per_task[per_task["method"] == method]
        if len(rows):
            values, k = list(rows[tasks].iloc[0]), rows["k"].iloc[0]
            label = LABELS[method] if pd.isna(k) else f"{LABELS[method]}, k = {k}"
            axis.plot(
                [*angles, angles[0]], [*values, values[0]], color=COLORS[method], marker=MARKERS[method], markersize=4,
                linewidth=1.4, label=label, clip_on=False,
            )  # fmt: skip
    axis.set_ylim(0, 100)
    axis.set_yticks([20, 40, 60, 80], ["20", "40", "60", "80 %"], fontsize=8)
    axis.set_rlabel_position(math.degrees(angles[1] / 2) if len(tasks) > 1 else 20)
    axis.set_xticks(angles, tasks)
    axis.tick_params(axis="x", pad=6)
    for text, angle in zip(axis.get_xticklabels(), angles, strict=True):
        side = math.sin(angle)
        text.set_horizontalalignment("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
    for text in axis.get_yticklabels():
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8})
    axis.spines["polar"].set_color(FAINT)
    axis.grid(True)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
