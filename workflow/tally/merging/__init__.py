"""Merge methods: a row each in `registry`, a short file each rule, and the one pass that merges, masks and votes together."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tally import masks
from tally.errors import TallyError
from tally.merging.consensus import check_k, consensus, consensus_mask
from tally.merging.magnitude import magnitude
from tally.merging.random_consensus import random_consensus
from tally.merging.registry import METHODS, Method, method
from tally.streaming import walk
from tally.vectors import Vectors

__all__ = [
    "METHODS",
    "Merged",
    "Method",
    "consensus",
    "consensus_mask",
    "magnitude",
    "merge",
    "method",
    "random_consensus",
]


class Merged(NamedTuple):
    """What one pass made; flat arrays over the domain, P weights, tasks in sorted order."""

    vector: np.ndarray  # float32 (P,): tau_mtl, or tau_consensus if k was given
    levels: np.ndarray | None  # uint8 (T, P) for a grid of lambdas; see tally.masks
    masks: np.ndarray | None  # uint8 (T, ceil(P / 8)) for one lambda a task
    votes: np.ndarray | None  # uint8 (P,) for one lambda a task


def merge(
    vectors: Vectors,
    name: str = "task-arithmetic",
    *,
    lambdas=None,
    k: int | None = None,
    strict: bool = False,
    keep: float = 0.2,
    frozen: int = 0,
    out: Mapping[str, np.ndarray] | None = None,
    **walking,
) -> Merged:
    """Merge task vectors, and in the same pass make their TALL masks, votes and the consensus.

    lambdas: an ascending grid gives levels; one number, or a mapping task -> lambda, gives packed masks and votes, and
    with k (consensus-*) the vector is 1{votes >= k} * tau_mtl. ties: keep is the share of largest weights that TIES
    keeps, of P + frozen (paper section 5, item 11). out: arrays (memory-mapped, say) for "vector", "levels", "masks",
    "votes"; with `out` given, only what is named there is kept, so memory does not depend on P.

    >>> from tally.vectors import open_vectors
    >>> merge(open_vectors({"a": {"w": np.float32([1, 0])}, "b": {"w": np.float32([2, 3])}})).vector
    array([3., 3.], dtype=float32)
    """
    row = method(name)
    if row.per_task or name == "random-consensus":
        raise TallyError(f"{name} is not one merged vector; merge {row.merged} and mask it")
    if row.has_k != (k is not None):
        raise TallyError(f"{name} needs k" if row.has_k else f"{name} takes no k; consensus methods do")
    if row.has_k:
        check_k(k, len(vectors.tasks))
    grid = None if lambdas is None else masks.lambda_grid(lambdas, vectors.tasks)
    if k is not None and (grid is None or not grid[1]):
        raise TallyError(f"{name} needs one lambda, or one for each task")
    out = _outputs(vectors, grid) if out is None else out
    state = row.prepare(vectors, keep, frozen, **walking)
    signs, unsettled = one_pass(vectors, row, state, 1, grid, strict, k, out, **walking)
    if signs <= 0 and unsettled:  # the majority sign, known only now, is not positive: redo the chunks where it counts
        one_pass(vectors, row, state, -1, grid, strict, k, out, starts=unsettled, **walking)
    return Merged(*(out.get(key) for key in Merged._fields))


def _outputs(vectors: Vectors, grid) -> dict[str, np.ndarray]:
    out = {"vector": np.empty(vectors.size, np.float32)}
    if grid is not None:
        out["masks" if grid[1] else "levels"] = masks.outputs(vectors, grid[1])
        if grid[1]:
            out["votes"] = np.empty(vectors.size, np.uint8)
    return out


def one_pass(
    vectors: Vectors, row: Method, state, majority: int, grid, strict, k, out, **walking
) -> tuple[int, list[int]]:
    """Walk once and fill whatever `out` names. Returns the sum of elected signs and where chunks begin that hold
    weights whose sign is the `majority`'s."""
    vector, packed = out.get("vector"), grid is not None and grid[1]
    bits, tally = out.get("masks" if packed else "levels"), out.get("votes")

    def visit(ops, lo, hi, tau):
        merged = np.empty(hi - lo, np.float32)
        report = row.block(ops, tau, state, majority, merged)
        if grid is not None:
            block = masks.write(ops, lo, hi, tau, merged, grid[0], strict, packed, bits)
            if packed and (k is not None or tally is not None):
                votes = block.sum(axis=0, dtype=np.uint8)
                if tally is not None:
                    tally[lo:hi] = votes
                if k is not None:
                    merged = consensus(merged, votes, k, len(tau))
        if vector is not None:
            vector[lo:hi] = merged
        return lo, *report

    reports = walk(vectors, visit, **walking)
    return sum(signs for _, signs, _ in reports), [lo for lo, _, cancelled in reports if cancelled]
