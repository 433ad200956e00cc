"""Choose lambda per task and alpha per candidate, on validation data only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tally.errors import TallyError

Count = Callable[[float, str, int, int], int]


@dataclass
class Trial:
    """One alpha under examination: correct answers among the examples seen so far, per task."""

    alpha: float
    totals: Mapping[str, int]
    correct: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = dict.fromkeys(self.totals, 0)
        self.seen = dict.fromkeys(self.totals, 0)

    @property
    def complete(self) -> bool:
        return all(self.seen[task] == total for task, total in self.totals.items())

    def bound(self, reference: Mapping[str, float]) -> float:
        """Mean normalized accuracy if every example not yet seen came out right; the accuracy itself once complete."""
        best = ((self.correct[t] + n - self.seen[t]) / n / reference[t] for t, n in self.totals.items())
        return sum(best) / len(self.totals)


def choose_alpha(
    alphas: Sequence[float],
    totals: Mapping[str, int],
    reference: Mapping[str, float],
    count: Count,
    *,
    block: int = 256,
) -> tuple[float, list[dict[str, Any]]]:
    """The alpha of the highest mean normalized validation accuracy; of equals the smallest (paper §3, authors' eval.py).

    The search is exact and lazy: it examines `block` more examples of the alpha whose upper bound is highest, and
    stops once that alpha is complete, since then no other can reach it. Every bound only falls, so the choice is the
    full grid's, whatever the block.

    `totals`: validation examples per task; `reference`: fine-tuned validation accuracy per task, in (0, 1];
    `count(alpha, task, start, stop)`: correct answers among the task's examples start..stop. Returns the choice and
    a row per alpha: counts, the bound it ended with, and the normalized accuracy where it was examined to the end.
    """
    for task, accuracy in reference.items():
        if accuracy == 0:
            raise TallyError(
                f"{task}: the fine-tuned model gets no validation example right, nothing can be normalized by it; train longer"
            )
    trials = [Trial(alpha, totals) for alpha in sorted(alphas)]
    while True:
        bounds = [trial.bound(reference) for trial in trials]
        current = trials[bounds.index(max(bounds))]  # the first maximum: the smallest alpha
        if current.complete:
            break
        task = min((t for t, n in totals.items() if current.seen[t] < n), key=lambda t: current.seen[t] / totals[t])
        start, stop = current.seen[task], min(current.seen[task] + block, totals[task])
        current.correct[task] += count(current.alpha, task, start, stop)
        current.seen[task] = stop
    rows = [
        {
            "alpha": trial.alpha,
            "normalized": trial.bound(reference) if trial.complete else None,
            "bound": trial.bound(reference),
            "counts": {task: [trial.correct[task], trial.seen[task]] for task in totals},
        }
        for trial in trials
    ]
    return current.alpha, rows


def choose_lambda(search: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the rows {lambda, density, correct, total}, the one with most correct; of equals the smallest lambda."""
    return max(sorted(search, key=lambda row: row["lambda"]), key=lambda row: row["correct"])
