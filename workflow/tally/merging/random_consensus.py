"""Random consensus, a control: as many weights of every tensor as the consensus mask keeps, but drawn at random."""

import zlib
from itertools import pairwise

import numpy as np
from tally.merging.consensus import consensus_mask
from tally.progress import bar

BLOCK = 1 << 16  # weights drawn at once, in the cache; the draw depends on it
PIECE = 1 << 29  # numpy draws from less than 10**9: of a longer tensor, each piece keeps as many as its mask


def random_consensus(
    merged: np.ndarray, votes: np.ndarray, k: int, tasks: int, vectors, seed: int = 0, out: np.ndarray | None = None
) -> np.ndarray:
    """tau_mtl at random weights, else 0; flat float32 (P,). `out`: where to put it, which may be `merged` itself.

    Any choice of as many weights of a tensor is as likely. The draw depends on the seed, k and the tensor's name only.
    """
    out = np.empty_like(merged) if out is None else out
    names = bar(vectors.names, "draw weights at random", unit="tensor")
    for name, (start, stop) in zip(names, pairwise(vectors.offsets.tolist()), strict=True):
        draw = np.random.default_rng([seed, k, zlib.crc32(name.encode())])
        for piece in _split(slice(start, stop), PIECE):
            kept = sum(np.count_nonzero(consensus_mask(votes[at], k, tasks)) for at in _split(piece, BLOCK))
            for at in _split(piece, BLOCK):
                size, left = at.stop - at.start, piece.stop - at.start
                here = draw.hypergeometric(kept, left - kept, size)
                chosen = np.zeros(size, bool)
                chosen[draw.choice(size, here, replace=False, shuffle=False)] = True
                out[at] = np.where(chosen, merged[at], 0)
                kept -= here
    return out


def _split(span: slice, size: int) -> list[slice]:
    return [slice(lo, min(lo + size, span.stop)) for lo in range(span.start, span.stop, size)]
