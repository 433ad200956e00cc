"""The table of merge methods.

No job of the workflow has this file as an input, so a new row redoes nothing. What a row computes is in the file of its
`block`, which is an input; an old row that takes another block of the same file is not noticed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tally.errors import TallyError
from tally.merging import task_arithmetic, ties


@dataclass(frozen=True)
class Method:
    """What a method is made of. Rows that share prepare and block differ in masks, k or alpha only."""

    about: str
    merged: str  # the merged vector it scales or masks
    prepare: Callable  # (vectors, keep, frozen, **walking) -> what block needs to know of whole vectors
    block: Callable  # (ops, tau, prepared, majority, out) -> (sum of signs, cancelled); see blocks.ties
    masks: str | None = None  # whose TALL masks it needs: task-arithmetic, or ties (taken against ties-sum)
    has_k: bool = False
    alpha: str = "search"  # or average (1 / T), or one
    per_task: bool = False  # restores one model a task, rather than one model for all


_ADD = {"merged": "task-arithmetic", "prepare": task_arithmetic.prepare, "block": task_arithmetic.block}
_TIES = {"merged": "ties", "prepare": ties.prepare, "block": ties.mean_block}
_TIES_SUM = {"merged": "ties-sum", "prepare": ties.prepare, "block": ties.sum_block}
_RESTORED = {"alpha": "one", "per_task": True}

METHODS: dict[str, Method] = {
    "weight-average": Method("mean of the fine-tuned weights", **_ADD, alpha="average"),
    "task-arithmetic": Method("sum of the task vectors", **_ADD),
    "ties": Method("trim, elect signs, mean of those that agree", **_TIES),
    "ties-sum": Method("trim, elect signs, sum of those that agree", **_TIES_SUM),
    "consensus-task-arithmetic": Method("the sum where k or more vote", **_ADD, masks="task-arithmetic", has_k=True),
    "consensus-ties": Method("ties-sum where k or more vote", **_TIES_SUM, masks="ties", has_k=True),
    "random-consensus": Method("the sum at as many, random weights", **_ADD, masks="task-arithmetic", has_k=True),
    "magnitude-masking": Method("the sum at each task's largest weights", **_ADD, **_RESTORED),
    "magnitude-pruning": Method("each task vector's largest weights", **_ADD, **_RESTORED),
    "tall-task-arithmetic": Method("the sum at each task's TALL mask", **_ADD, masks="task-arithmetic", **_RESTORED),
    "tall-ties": Method("ties-sum at each task's TALL mask", **_TIES_SUM, masks="ties", **_RESTORED),
}


def method(name: str) -> Method:
    """The row of METHODS, or TallyError with the known names."""
    if name not in METHODS:
        raise TallyError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]
