"""Random consensus, a control: as many weights of every tensor as the consensus mask keeps, but drawn at random."""

import zlib
from math import prod

import numpy as np
from tally.merging.consensus import consensus_mask


def random_consensus(merged: np.ndarray, votes: np.ndarray, k: int, tasks: int, vectors, seed: int = 0) -> np.ndarray:
    """tau_mtl at random weights, else 0; flat float32 (P,). `vectors`: anything with the domain's names and shapes.

    The draw depends on the seed, k and the tensor's name only.
    """
    out, start = np.zeros_like(merged), 0
    for name, shape in zip(vectors.names, vectors.shapes, strict=True):
        stop = start + prod(shape)
        kept = int(np.count_nonzero(consensus_mask(votes[start:stop], k, tasks)))
        draw = np.random.default_rng([seed, k, zlib.crc32(name.encode())])
        chosen = start + draw.choice(stop - start, kept, replace=False, shuffle=False)
        out[chosen] = merged[chosen]
        start = stop
    return out
