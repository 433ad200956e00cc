"""Consensus merging (paper section 1): tau_consensus = 1{votes >= k} * tau_mtl.

k = 0 is plain merging, 1 drops catastrophic weights, 2 selfish ones as well, T + 1 everything.
"""

import numpy as np
from tally.errors import TallyError


def check_k(k: int, tasks: int) -> None:
    """Raise TallyError unless k is a whole number in 0..T + 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k <= tasks + 1:
        raise TallyError(
            f"k is {k}; with {tasks} tasks it is a whole number from 0 (keep all) to {tasks + 1} (keep none)"
        )


def consensus_mask(votes: np.ndarray, k: int, tasks: int) -> np.ndarray:
    """1{votes >= k}, bool, of the votes' shape."""
    check_k(k, tasks)
    return votes >= k


def consensus(merged: np.ndarray, votes: np.ndarray, k: int, tasks: int) -> np.ndarray:
    """1{votes >= k} * tau_mtl, float32 of the votes' shape (flat, or one tensor). Raises TallyError for another k."""
    if merged.shape != votes.shape:
        raise TallyError(f"the merged vector is {merged.shape}, the votes are {votes.shape}; make both from one suite")
    out = np.zeros_like(merged)
    np.copyto(out, merged, where=consensus_mask(votes, k, tasks))
    return out
