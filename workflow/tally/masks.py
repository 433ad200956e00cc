"""TALL masks m_t = 1{|tau_t| >= lambda_t * |tau_mtl - tau_t|} (paper section 1), for a grid of lambdas at once, and their bits.

A larger lambda keeps fewer weights, and each mask holds all later ones. So one small number a weight, its level = how
many lambdas of the ascending grid keep it, is the whole grid. Chosen masks are packed: numpy.packbits order, first
weight in the highest bit, each task's mask padded with zeros to whole bytes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from tally.errors import TallyError
from tally.streaming import walk
from tally.vectors import Vectors


def tall(vectors: Vectors, merged: np.ndarray, lambdas, *, strict: bool = False, out=None, **walking) -> np.ndarray:
    """Masks against an existing merged vector, flat float32 (P,).

    lambdas: an ascending sequence gives levels, uint8 (T, P); one number, or a mapping task -> lambda, gives packed
    masks, uint8 (T, ceil(P / 8)). `out`: where to put them. strict: > as in the authors' code instead of >=.
    """
    grid, packed = lambda_grid(lambdas, vectors.tasks)
    out = outputs(vectors, packed) if out is None else out

    def visit(ops, lo, hi, tau):
        write(ops, lo, hi, tau, np.ascontiguousarray(merged[lo:hi]), grid, strict, packed, out)

    walk(vectors, visit, **walking)
    return out


def outputs(vectors: Vectors, packed: bool) -> np.ndarray:
    """An array for the result of `tall`."""
    return np.empty((len(vectors.tasks), -(-vectors.size // 8) if packed else vectors.size), np.uint8)


def write(ops, lo, hi, tau, merged, grid, strict, packed, out) -> np.ndarray:
    """Masks or levels of one chunk into `out` (may be None); returns the levels, uint8 (T, hi - lo)."""
    block = np.empty(tau.shape, np.uint8)
    ops.levels(tau, merged, grid, strict, block)
    if out is not None:
        part = np.s_[lo // 8 : -(-hi // 8)] if packed else np.s_[lo:hi]
        for row, level in zip(out, pack(block) if packed else block, strict=True):
            row[part] = level
    return block


def lambda_grid(lambdas, tasks: Sequence[str]) -> tuple[np.ndarray, bool]:
    """(float32 (T, L), whether the result is packed masks). Raises TallyError for lambdas that are no ascending grid."""
    if isinstance(lambdas, Mapping):
        missing = [task for task in tasks if task not in lambdas]
        if missing:
            raise TallyError(f"no lambda for the task {missing[0]!r}; given are {', '.join(sorted(lambdas))}")
        rows, packed = [[lambdas[task]] for task in tasks], True
    elif isinstance(lambdas, (int, float, np.number)):
        rows, packed = [[lambdas]] * len(tasks), True
    else:
        rows, packed = [list(lambdas)] * len(tasks), False
    grid = np.array(rows, np.float32)
    if not (grid.size and grid.shape[1] < 256 and np.isfinite(grid).all() and (grid >= 0).all()):
        raise TallyError(f"lambda must be numbers of at least 0, not {lambdas}")
    if (np.diff(grid, axis=1) <= 0).any():
        raise TallyError(f"the lambda grid must ascend, not {lambdas}")
    return grid, packed


def at(level: np.ndarray, lambdas: Sequence[float], chosen: float) -> np.ndarray:
    """The mask of one lambda of the grid, bool, from levels of any shape."""
    if chosen not in list(lambdas):
        raise TallyError(f"lambda {chosen} is not in the grid {list(lambdas)}")
    return np.asarray(level) > list(lambdas).index(chosen)


def pack(mask: np.ndarray) -> np.ndarray:
    """Bits of the last axis into bytes: (..., P) of bool or 0/1 -> uint8 (..., ceil(P / 8))."""
    return np.packbits(mask, axis=-1)


def unpack(packed: np.ndarray, size: int) -> np.ndarray:
    """uint8 (..., ceil(P / 8)) -> bool (..., P), P = size."""
    packed = np.asarray(packed)
    if packed.dtype != np.uint8 or packed.shape[-1:] != (-(-size // 8),):
        raise TallyError(
            f"a mask of {size} weights is {-(-size // 8)} bytes, not {packed.dtype} of shape {packed.shape}"
        )
    return np.unpackbits(packed, axis=-1, count=size).view(bool)


def count(packed: np.ndarray) -> int:
    """How many bits are set (padding is zero)."""
    packed = np.asarray(packed).reshape(-1)
    chunks = (packed[i : i + (1 << 20)] for i in range(0, packed.size, 1 << 20))
    return sum(int(np.bitwise_count(chunk).sum(dtype=np.int64)) for chunk in chunks)
