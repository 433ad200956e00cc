"""Choose lambda per task and alpha per candidate, on validation data only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tally.errors import TallyError

Answers = Callable[[float, str, np.ndarray], np.ndarray]


class Trial:
    """One alpha under examination: correct answers among the examples seen so far, per task."""

    def __init__(self, alpha: float, totals: Mapping[str, int]):
        self.alpha = alpha
        self.totals = totals
        self.correct = dict.fromkeys(totals, 0)
        self.seen = dict.fromkeys(totals, 0)

    @property
    def complete(self) -> bool:
        return self.seen == dict(self.totals)

    def bound(self, reference: Mapping[str, float]) -> float:
        """Mean normalized accuracy if every example not yet seen came out right; the accuracy itself once complete."""
        best = ((self.correct[t] + n - self.seen[t]) / n / reference[t] for t, n in self.totals.items())
        return sum(best) / len(self.totals)

    def examine(self, answers: Answers, task: str, rows: np.ndarray) -> np.ndarray:
        hits = answers(self.alpha, task, rows)
        self.correct[task] += int(hits.sum())
        self.seen[task] += len(rows)
        return hits


def choose_alpha(
    alphas: Sequence[float],
    totals: Mapping[str, int],
    reference: Mapping[str, float],
    answers: Answers,
    *,
    block: int = 128,
) -> tuple[float, list[dict[str, Any]]]:
    """The alpha of the highest mean normalized validation accuracy; of equals the smallest (authors' eval.py).

    The choice is the full grid's, at about half its examples. One alpha is examined on everything. The others
    then see the examples it got wrong first, since models that differ in alpha fail on much the same ones, and
    always the alpha whose upper bound is highest sees the next `block`. Once that alpha is complete no other can
    reach it: a bound only falls.

    `totals`: validation examples per task; `reference`: fine-tuned validation accuracy per task, in (0, 1];
    `answers(alpha, task, rows)`: which of the task's examples with these numbers come out right, bool.
    Returns the choice and a row per alpha: counts, the bound it ended with, and the normalized accuracy where the
    alpha was examined to the end. Raises TallyError where the reference is 0.
    """
    for task, accuracy in reference.items():
        if accuracy == 0:
            raise TallyError(
                f"{task}: the fine-tuned model gets no validation example right, so nothing can be normalized by it; train longer"
            )
    trials = [Trial(alpha, totals) for alpha in sorted(alphas)]
    pioneer = trials[len(trials) // 4]
    hits = {task: pioneer.examine(answers, task, np.arange(n)) for task, n in totals.items()}
    order = {task: np.argsort(right, kind="stable") for task, right in hits.items()}  # its failures first
    while True:
        bounds = [trial.bound(reference) for trial in trials]
        leader = trials[bounds.index(max(bounds))]  # the first maximum: the smallest alpha
        if leader.complete:
            break
        coming = {t: order[t][leader.seen[t] : leader.seen[t] + block] for t, n in totals.items() if leader.seen[t] < n}
        # the block that should lower the bound most: the pioneer's failures, each worth 1 / (examples x reference)
        task = max(coming, key=lambda t: (~hits[t][coming[t]]).sum() / totals[t] / reference[t])
        leader.examine(answers, task, coming[task])
    rows = [
        {
            "alpha": trial.alpha,
            "normalized": trial.bound(reference) if trial.complete else None,
            "bound": trial.bound(reference),
            "counts": {task: [trial.correct[task], trial.seen[task]] for task in totals},
        }
        for trial in trials
    ]
    return leader.alpha, rows


def choose_lambda(search: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the rows {lambda, density, correct, total}, the one with most correct; of equals the smallest lambda."""
    return max(sorted(search, key=lambda row: row["lambda"]), key=lambda row: row["correct"])
