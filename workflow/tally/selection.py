"""Choose lambda per task and alpha per candidate, on validation data only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tally.errors import TallyError

Margins = Callable[[float, np.ndarray], np.ndarray]


def choose_alpha(
    alphas: Sequence[float],
    totals: Mapping[str, int],
    reference: Mapping[str, float],
    margins: Margins,
    *,
    block: int = 256,
) -> tuple[float, list[dict[str, Any]]]:
    """The alpha of the highest mean normalized validation accuracy; of equals the smallest (authors' eval.py).

    The choice is the full grid's, at two thirds to five sixths of its examples: an alpha is out when it has failed on as
    many as the best one, so each must see at least as large a share as the best one gets wrong.

    All alphas see a probe, a `block` of examples from all tasks. The one that does best on it, the pioneer, is examined on
    everything. The others see the rest in the order of its margins, its worst failures first, since models that differ in
    alpha fail on much the same examples. Always the alpha whose upper bound is highest, which counts every example not
    yet seen as right, sees the next `block`. Once that alpha has seen all no other can reach it: a bound only falls.

    `totals`: validation examples per task; `reference`: fine-tuned validation accuracy per task, in (0, 1];
    `margins(alpha, rows)`: of the examples with these numbers (task after task, in the order of `totals`) the logit of
    the label minus the best other one, float; above 0 is a correct answer.
    Returns the choice and a row per alpha: correct and seen examples per task, the bound it ended with, and the
    normalized accuracy where the alpha was examined to the end. Raises TallyError where the reference is 0.
    """
    for task, accuracy in reference.items():
        if accuracy == 0:
            raise TallyError(
                f"{task}: the fine-tuned model gets no validation example right, so nothing can be normalized by it; train longer"
            )
    alphas, n = sorted(alphas), np.array(list(totals.values()))
    owner = np.repeat(np.arange(len(n)), n)  # the task of each example
    wrong = np.zeros((len(alphas), len(n)), dtype=np.int64)  # among the examples seen so far
    seen = np.zeros(len(alphas), dtype=np.int64)

    def see(trial: int, rows: np.ndarray) -> np.ndarray:
        found = margins(alphas[trial], rows)
        wrong[trial] += np.bincount(owner[rows][~(found > 0)], minlength=len(n))
        seen[trial] += len(rows)
        return found

    def bound(trial: int) -> float:
        """Mean normalized accuracy if every example not yet seen came out right."""
        best = ((n[t] - wrong[trial, t]) / n[t] / reference[task] for t, task in enumerate(totals))
        return float(sum(best) / len(n))

    every = np.arange(len(owner))
    probe = every[:: -(-len(owner) // block)]
    for trial in range(len(alphas)):
        see(trial, probe)
    bounds = [bound(trial) for trial in range(len(alphas))]
    pioneer, rest = bounds.index(max(bounds)), np.setdiff1d(every, probe)
    blocks = [see(pioneer, rest[start : start + block]) for start in range(0, len(rest), block)]
    order = np.concatenate([probe, rest[np.argsort(np.concatenate([*blocks, []]), kind="stable")]])
    bounds[pioneer] = bound(pioneer)
    while seen[leader := bounds.index(max(bounds))] < len(owner):  # the first maximum: the smallest alpha
        see(leader, order[seen[leader] : seen[leader] + block])
        bounds[leader] = bound(leader)

    def record(trial: int) -> dict[str, Any]:
        among = np.bincount(owner[order[: seen[trial]]], minlength=len(n))
        return {
            "alpha": alphas[trial],
            "normalized": bounds[trial] if seen[trial] == len(owner) else None,
            "bound": bounds[trial],
            "counts": {task: [int(among[t] - wrong[trial, t]), int(among[t])] for t, task in enumerate(totals)},
        }

    return alphas[leader], [record(trial) for trial in range(len(alphas))]


def choose_lambda(search: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the rows {lambda, density, correct, total}, the one with most correct; of equals the smallest lambda."""
    return max(sorted(search, key=lambda row: row["lambda"]), key=lambda row: row["correct"])
