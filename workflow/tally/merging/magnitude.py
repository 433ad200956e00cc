"""Magnitude masking and pruning, the baselines of TALL masks (paper section 4): only the largest |tau_t| decide.

Masking keeps tau_mtl = sum of the task vectors where |tau_t| is among the top 10 %; pruning keeps tau_t itself where it
is among the top 1 / T. Both restore one model a task, unscaled. "Matched" masking keeps as many weights of each task as
its TALL mask does.
"""

from collections.abc import Mapping

import numpy as np
from tally import masks
from tally.errors import TallyError
from tally.streaming import kth_magnitudes, rank, walk
from tally.vectors import Vectors


def magnitude(
    vectors: Vectors,
    keep: float | None = None,
    *,
    counts: Mapping[str, int] | None = None,
    frozen: int = 0,
    out=None,
    **walking,
) -> np.ndarray:
    """Packed masks, uint8 (T, ceil(P / 8)), of the largest |tau_t| over the whole domain, task by task.

    keep: the share that stays, with the authors' threshold (see `streaming.rank`); counts: how many stay, exactly but
    for equal magnitudes at the threshold, which all stay. Both with >=; a count of 0 keeps none. `out`: where to put them.
    """
    if (keep is None) == (counts is None):
        raise TallyError("give either keep, a share, or counts, a number of weights for each task")
    if counts is None:
        ranks = [rank(vectors.size, keep, frozen)] * len(vectors.tasks)
    else:
        missing = [task for task in vectors.tasks if task not in counts]
        if missing:
            raise TallyError(f"no count for the task {missing[0]!r}; given are {', '.join(sorted(counts))}")
        ranks = [vectors.size - counts[task] + 1 for task in vectors.tasks]
    thresholds = kth_magnitudes(vectors, ranks, **walking)
    out = masks.outputs(vectors, packed=True) if out is None else out

    def visit(ops, lo, hi, tau):
        for row, threshold, bits in zip(tau, thresholds, out, strict=True):
            bits[lo // 8 : -(-hi // 8)] = masks.pack(ops.get(abs(row) >= float(threshold)))

    walk(vectors, visit, **walking)
    return out
