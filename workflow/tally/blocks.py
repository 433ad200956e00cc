"""The arithmetic on one block of weights of all tasks, in numpy: what `kernels` (numba) and `device` (torch) must equal.

Shapes: tau (T, B) float32 task vectors, merged and out (B,) float32. Every operation is one float32 rounding, in task
order, so that all three give the same bits whatever the size of the blocks.
"""

from collections.abc import Sequence

import numpy as np

MAGNITUDE = np.uint32(0x7FFFFFFF)  # float32 bits without the sign; as integers they sort like |x|


def put(tau: np.ndarray) -> np.ndarray:
    """Bring a block to where it is computed on; here it is already."""
    return tau


def get(array: np.ndarray) -> np.ndarray:
    """Bring a result back to the host."""
    return array


def bits(tau: np.ndarray) -> np.ndarray:
    """The same memory as uint32."""
    return tau.view(np.uint32)


def float32(stored: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Stored weights as float32: themselves if they are, else converted, into `out` if given. uint16 is bfloat16's bits."""
    if stored.dtype == np.float32:
        return stored
    out = np.empty(stored.shape, np.float32) if out is None else out
    if stored.dtype == np.uint16:  # a bfloat16 is the upper half of a float32
        np.left_shift(stored, 16, out=out.view(np.uint32), dtype=np.uint32)
    else:
        out[...] = stored
    return out


def differences(thetas: Sequence[np.ndarray], base: np.ndarray | None, out: np.ndarray, start: int) -> bool:
    """out[t, start + i] = thetas[t][i] - base[i], or thetas[t][i] without base; returns whether all are finite.

    thetas: T flat arrays of n weights as they are stored, see `float32`; out: float32 (T, start + n or more).
    """
    rows = out[:, start : start + thetas[0].size]
    base = None if base is None else float32(base)
    for theta, row in zip(thetas, rows, strict=True):
        values = float32(theta, row)
        if base is not None:
            np.subtract(values, base, out=row)
        elif values is not row:
            row[:] = values
    return bool(np.isfinite(rows).all())


def total(tau: np.ndarray, out: np.ndarray) -> None:
    """out = tau[0] + tau[1] + ... in this order (np.sum may pair terms otherwise)."""
    out[:] = tau[0]
    for row in tau[1:]:
        np.add(out, row, out=out)


def levels(tau: np.ndarray, merged: np.ndarray, lambdas: np.ndarray, strict: bool, out: np.ndarray) -> None:
    """out[t, i] = number of l with |tau[t, i]| >= lambdas[t, l] * |merged[i] - tau[t, i]| (> if strict); paper section 1.

    lambdas (T, L) float32 ascending; out uint8 (T, B). As masks are nested, mask l is out > l.
    """
    compare = np.greater if strict else np.greater_equal
    far, scaled, bit = np.empty_like(merged), np.empty_like(merged), np.empty(merged.shape, bool)
    near = np.empty_like(merged)
    for row, scales, level in zip(tau, lambdas, out, strict=True):
        np.abs(row, out=near)
        np.abs(np.subtract(merged, row, out=far), out=far)
        level[:] = 0
        for scale in scales:
            compare(near, np.multiply(far, scale, out=scaled), out=bit)
            np.add(level, bit.view(np.uint8), out=level)


def ties(tau: np.ndarray, thresholds: np.ndarray, majority: int, mean: bool, out: np.ndarray) -> tuple[int, int]:
    """TIES (Yadav et al. 2023): zero |tau[t]| < thresholds[t], elect signs by the sum, aggregate what agrees.

    A sum of exactly 0 takes the sign `majority`. mean: divide by how many agree. Returns (sum of signs, number of
    weights where non-zero values cancelled to 0), from which the caller knows the majority and whether it mattered.
    """
    kept = [row * (np.abs(row) >= threshold) for row, threshold in zip(tau, thresholds, strict=True)]
    mass = np.zeros_like(out)
    for row in kept:
        mass += row
    positive = (mass > 0) | ((mass == 0) & (majority > 0))
    count, some = np.zeros(out.shape, np.uint8), np.zeros(out.shape, bool)
    out[:] = 0
    for row in kept:
        agrees, exists = (row > 0) == positive, row != 0
        out += row * agrees
        count += (agrees & exists).view(np.uint8)
        some |= exists
    if mean:
        out /= np.maximum(count, 1).astype(np.float32)
    signs = int(np.count_nonzero(mass > 0)) - int(np.count_nonzero(mass < 0))
    return signs, int(np.count_nonzero((mass == 0) & some))


def histogram(bits: np.ndarray, out: np.ndarray) -> None:
    """Count |x| by its upper 16 bits: bits uint32 of float32, out int64 (32768,)."""
    found = np.bincount((bits & MAGNITUDE) >> 16)
    out[: found.size] += found


def low_histogram(bits: np.ndarray, high: int, out: np.ndarray) -> None:
    """Among the |x| whose upper 16 bits are `high`, count by the lower 16: out int64 (65536,)."""
    magnitude = bits & MAGNITUDE
    np.add.at(out, magnitude[(magnitude >> 16) == high] & np.uint32(0xFFFF), 1)
