"""Mask agreement profile: how many weights are kept by exactly n tasks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tally.figures.style import COLORS, INK, canvas, styled
from tally.tables import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def agreement(votes: Mapping[str, Mapping]) -> "Figure":
    """Bars: share of weights with n votes, n = 0..T; black outline: the same after each task vector was permuted.

    votes: {merge method: votes file}, one panel each. The shares of catastrophic (0 votes), selfish (1) and general
    (2 or more) weights are printed, chance in brackets.
    """
    methods = [method for method in ("task-arithmetic", "ties") if method in votes]
    figure, axes = canvas(0.6 + 2.3 * len(methods), len(methods), sharex=True, squeeze=False)
    for axis, method in zip(axes[:, 0], methods, strict=True):
        record = votes[method]
        profile, chance = ([100 * share for share in record[key]] for key in ("profile", "chance"))
        n = range(len(profile))
        axis.bar(n, profile, width=0.8, color=COLORS[method])
        outline = axis.bar(n, chance, width=0.8, fill=False, edgecolor=INK, linewidth=1.1)
        parts = (("catastrophic", slice(0, 1)), ("selfish", slice(1, 2)), ("general", slice(2, None)))
        shares = [f"{name} {sum(profile[part]):.1f} % ({sum(chance[part]):.1f})" for name, part in parts]
        axis.set_title(LABELS[method])
        axis.set_title("     ".join(shares), loc="right", fontsize=9.5, fontweight="normal")
        axis.set_ylabel("weights, %")
        axis.set_ylim(0, 1.05 * max(*profile, *chance))
        axis.grid(axis="y")
    legend = {"loc": "outside lower right", "fontsize": 9}
    figure.legend([outline], ["outline, and in brackets: chance (each task vector permuted)"], **legend)
    axes[-1, 0].set_xticks(n)
    axes[-1, 0].set_xlabel("number of tasks whose mask keeps the weight")
    return figure
