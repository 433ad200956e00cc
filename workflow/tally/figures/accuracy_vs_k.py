"""Effect of k: normalized accuracy of the consensus methods against their threshold."""

from typing import TYPE_CHECKING

import pandas as pd
from tally.figures.style import COLORS, INK, MARKERS, canvas, spread, styled
from tally.records import CONSENSUS
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLAIN = ("task-arithmetic", "ties", "zero-shot")


@styled
def accuracy_vs_k(main: pd.DataFrame) -> "Figure":
    """Lines with 95 % bands for the consensus methods, dashed lines for what needs no k; a ring marks the chosen k.

    main: the frame of `tables.main_table`.
    """
    figure, axis = canvas(4.3)
    methods = [method for method in CONSENSUS if (main["method"] == method).any()]
    ends, ks = [], sorted(int(k) for k in main["k"].dropna().unique())
    for method in methods:
        rows = main[main["method"] == method]
        k, values, color = [int(k) for k in rows["k"]], list(rows["normalized"]), COLORS[method]
        axis.fill_between(k, rows["normalized_low"], rows["normalized_high"], color=color, alpha=0.15, linewidth=0)
        axis.plot(k, values, color=color, marker=MARKERS[method], label=LABELS[method])
        best = list(rows["chosen"]).index(True)
        axis.plot(k[best], values[best], "o", markersize=12, markerfacecolor="none", markeredgecolor=color)
    shown = main[main["method"].isin([*CONSENSUS, *PLAIN])]
    low, high = shown["normalized_low"].min(), shown["normalized_high"].max()
    for method in PLAIN:
        rows = main[main["method"] == method]
        if len(rows):
            value = float(rows["normalized"].iloc[0])
            axis.axhline(value, color=COLORS[method], linestyle=(0, (5, 3)), linewidth=1.2, zorder=0)
            ends.append((method, value))
    axis.margins(x=0.02)
    axis.set_ylim(low - 0.03 * (high - low), high + 0.05 * (high - low))
    places = spread([value for _, value in ends], 0.06 * (high - low))
    for (method, _), place in zip(ends, places, strict=True):
        axis.annotate(
            LABELS[method], (1, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", color=COLORS[method], annotation_clip=False,
        )  # fmt: skip
    axis.set_xticks(ks)
    axis.set_xlabel("k: a weight is kept when at least k tasks vote for it")
    axis.set_ylabel("normalized test accuracy, %")
    axis.grid(axis="y")
    handles, names = axis.get_legend_handles_labels()
    ring = axis.plot([], [], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK)[0]
    figure.legend(
        [*handles, ring], [*names, "k chosen on validation"], loc="outside upper left", ncols=4, columnspacing=1.5
    )
    return figure
