"""Votes: per weight, in how many TALL masks it is set; the agreement profile and consensus masks made from them."""

import zlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from tally import masks, merging
from tally.errors import TallyError
from tally.vectors import Vectors, open_vectors

CHUNK = 1 << 18  # weights a step, a multiple of 8


def votes(packed, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """uint8 (P,): number of masks that hold each weight. packed: mapping task -> bytes, or uint8 (T, ceil(P / 8))."""
    rows = list(packed.values()) if isinstance(packed, Mapping) else list(packed)
    if len(rows) > 255:
        raise TallyError(f"{len(rows)} tasks; votes are counted in bytes, so at most 255")
    out = np.empty(size, np.uint8) if out is None else out
    for lo in range(0, size, CHUNK):
        part = out[lo : lo + CHUNK]
        part[:] = 0
        for row in rows:
            if len(row) != -(-size // 8):
                raise TallyError(f"a mask of {size} weights is {-(-size // 8)} bytes, not {len(row)}")
            part += np.unpackbits(row[lo // 8 : (lo + CHUNK) // 8], count=part.size)
    return out


def counts(votes: np.ndarray, tasks: int) -> np.ndarray:
    """int64 (T + 1,): number of weights with n = 0..T votes."""
    votes = votes.reshape(-1)
    total = np.zeros(256, np.int64)
    for lo in range(0, votes.size, 1 << 22):
        total += np.bincount(votes[lo : lo + (1 << 22)], minlength=256)
    if total[tasks + 1 :].any():
        raise TallyError(f"votes of up to {int(votes.max())} cannot come from {tasks} tasks")
    return total[: tasks + 1]


def profile(votes: np.ndarray, tasks: int) -> list[float]:
    """Mask agreement profile: share of weights selected by exactly n of the T tasks, n = 0..T (paper section 1)."""
    return (counts(votes, tasks) / votes.size).tolist()


def shares(profile: list[float]) -> dict[str, float]:
    """Shares of catastrophic (0 votes), selfish (1) and general (2 or more) weights."""
    return {"catastrophic": profile[0], "selfish": profile[1], "general": float(sum(profile[2:]))}


def chance_profile(
    vectors: Vectors,
    lambdas,
    method: str = "task-arithmetic",
    *,
    seed: int = 0,
    keep: float = 0.2,
    frozen: int = 0,
    strict: bool = False,
    **walking,
) -> list[float]:
    """The agreement profile of task vectors that have nothing to do with each other.

    Each task vector is permuted within its tensors, so that it keeps every tensor's magnitudes but not their places;
    the permuted vectors are merged by `method` (with "ties": ties-sum) and masked with the same lambdas. One tensor of
    all tasks is held at a time. The seed of a permutation depends on task and tensor name only.
    """
    rule = merging.method("ties-sum" if method == "ties" else method)
    state = rule.prepare(vectors, keep, frozen, **walking)  # thresholds of whole vectors: a permutation keeps them
    grid = masks.lambda_grid(lambdas, vectors.tasks)

    def one_tensor(name: str, majority: int) -> tuple[np.ndarray, int, list[int]]:
        only = replace(vectors, names=(name,))
        part = open_vectors({task: {name: _shuffled(only, t, seed)} for t, task in enumerate(vectors.tasks)})
        out = {"votes": np.empty(part.size, np.uint8)}
        report = merging.one_pass(part, rule, state, majority, grid, strict, None, out, **walking)
        return counts(out["votes"], len(vectors.tasks)), *report

    tensors = {name: one_tensor(name, 1) for name in vectors.names}
    if sum(signs for _, signs, _ in tensors.values()) <= 0:  # as in merging.merge
        tensors |= {name: one_tensor(name, -1) for name, (_, _, unsettled) in tensors.items() if unsettled}
    return (sum(count for count, _, _ in tensors.values()) / vectors.size).tolist()


def _shuffled(only: Vectors, t: int, seed: int) -> np.ndarray:
    key = [seed, zlib.crc32(only.tasks[t].encode()), zlib.crc32(only.names[0].encode())]
    return np.random.default_rng(key).permutation(only.task(t))
