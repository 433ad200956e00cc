"""TIES (Yadav et al. 2023) as the authors of TALL-masks run it (paper sections 1, 4 and 5, items 9 to 12).

Trim: of each task vector the largest `keep` stay. Elect: a weight's sign is that of the trimmed vectors' sum; where
that is exactly 0, the majority sign of all weights. Merge: the mean ("ties", the baseline) or the sum ("ties-sum", what
masks compare with and consensus prunes) of the trimmed values that have the elected sign.
"""

import numpy as np
from tally.streaming import kth_magnitudes, rank


def prepare(vectors, keep: float, frozen: int, **walking) -> np.ndarray:
    """Every task's trim threshold, float32 (T,): weights at or above it stay. keep=1 trims nothing."""
    return kth_magnitudes(vectors, [rank(vectors.size, keep, frozen)] * len(vectors.tasks), **walking)


def mean_block(ops, tau, thresholds: np.ndarray, majority: int, out: np.ndarray) -> tuple[int, int]:
    """out = mean of the elected; returns (sum of signs, number of weights whose sign is the majority's)."""
    return ops.ties(tau, thresholds, majority, True, out)


def sum_block(ops, tau, thresholds: np.ndarray, majority: int, out: np.ndarray) -> tuple[int, int]:
    """out = sum of the elected; returns as mean_block."""
    return ops.ties(tau, thresholds, majority, False, out)
