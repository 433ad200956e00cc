"""Storage against accuracy: what each storage format of the TALL masks costs and keeps."""

from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, INK, MUTED, canvas, spread, styled
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REFERENCES = (
    "zero-shot", "task-arithmetic", "consensus-task-arithmetic", "fine-tuned", "magnitude-pruning", "magnitude-masking",
)  # fmt: skip
SHAPES = {"fp32": "o", "fp16": "s", "bf16": "D", "int8": "^"}  # of the merged vector


@styled
def storage(rows: pd.DataFrame, table: pd.DataFrame, weights: int) -> "Figure":
    """Normalized accuracy against bits per domain weight and task, both of the whole file; right: the formats alone.

    rows: the frame of `tables.best_rows`; table: of `tables.storage_table`; weights: domain weights times tasks.
    """
    figure, (left, right) = canvas(4.4, 1, 2, width_ratios=(1, 1.15))
    for axis in (left, right):
        for row in table.itertuples():
            color = COLORS[row.method]
            look = {"color": color, "alpha": 0.4 if row.base == "bf16" else 1, "markeredgewidth": 1.4}
            if axis is right:
                axis.vlines(row.bits, row.normalized_low, row.normalized_high, color=color, linewidth=1, alpha=0.25)
            fill = {} if row.codec == "zstd" else {"markerfacecolor": "white"}
            axis.plot(row.bits, row.normalized, SHAPES[row.vector], **look | fill)
    others = rows[rows["method"].isin(REFERENCES)].copy()
    others["bits"] = others["gigabits"] * 1e9 / weights
    for row in others.itertuples():
        left.plot(row.bits, row.normalized, "x", color=COLORS[row.method], markeredgewidth=1.8)
    span = 100 - min(others["normalized"].min(), table["normalized"].min())
    for _, group in others.groupby(others["bits"].round(3)):
        places = spread(list(group["normalized"]), 0.05 * span)
        for row, place in zip(group.itertuples(), places, strict=True):
            at_the_right = row.method == "fine-tuned"
            left.annotate(
                LABELS[row.method], (row.bits, place), xytext=(-7 if at_the_right else 7, 0), fontsize=8.5, va="center",
                textcoords="offset points", ha="right" if at_the_right else "left", color=INK,
            )  # fmt: skip
    left.set_xscale("log", base=2)
    ticks = [
        2.0**n for n in range(-1, 7) if 2.0**n >= 0.7 * others["bits"].min() and 2.0**n <= 1.5 * others["bits"].max()
    ]
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_xlim(right=1.2 * others["bits"].max())
    left.set_ylabel("normalized test accuracy, %")
    left.set_title("All methods")
    right.set_title("Storage formats")
    right.set_xlim(left=0)
    for method, one in table.groupby("method"):
        right.axhline(one["normalized"].iloc[0], color=COLORS[method], linestyle=(0, (5, 3)), linewidth=0.8, zorder=0)
    for axis in (left, right):
        axis.set_xlabel("bits per domain weight and task")
        axis.grid(axis="y")
    _legend(figure, left, table)
    return figure


def _legend(figure: "Figure", axis, table: pd.DataFrame) -> None:
    entries = [({"marker": "o", "color": COLORS[m]}, LABELS[m]) for m in table["method"].drop_duplicates()]
    entries += [({"marker": SHAPES[v], "color": MUTED}, f"{v} vector") for v in SHAPES if (table["vector"] == v).any()]
    entries += [
        ({"marker": "o", "color": MUTED, "markerfacecolor": "white", "markeredgewidth": 1.4}, "hollow: packed masks")
    ]
    if (table["base"] == "bf16").any():
        entries.append(({"marker": "o", "color": MUTED, "alpha": 0.4}, "pale: bf16 base"))
    handles = [axis.plot([], [], linestyle="none", **look)[0] for look, _ in entries]
    figure.legend(handles, [name for _, name in entries], loc="outside upper left", ncols=4, columnspacing=1.5)
