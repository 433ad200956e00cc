"""The inner loops, compiled by numba: the same arithmetic as `blocks`, bit for bit, some four times as fast.

Every loop runs over contiguous weights without branches so that LLVM vectorises it. `fastmath` stays off: it would allow
fused multiply-add, whose single rounding differs from numpy's two. All release the GIL; threads each take a chunk.
"""

import numba
import numpy as np
from tally.blocks import bits, get, put, total

__all__ = ["bits", "get", "histogram", "levels", "low_histogram", "put", "ties", "total", "widen"]

BLOCK = 2048  # weights whose running sums stay in the first-level cache


def compiled(function):
    """numba.njit, with compiled code kept on disk where a cache folder is writable."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available": neither __pycache__ nor the user's cache folder is writable
        return numba.njit(function, **options)


@compiled
def widen(source, out):
    """bfloat16 bits (uint16) to float32 bits (uint32): a bfloat16 is the upper half of a float32."""
    for i in range(source.size):
        out[i] = np.uint32(source[i]) << np.uint32(16)


@compiled
def levels(tau, merged, lambdas, strict, out):
    """See `blocks.levels`. tau (T, B), merged (B,), lambdas (T, L), all float32; out uint8 (T, B)."""
    for t in range(tau.shape[0]):
        row, level = tau[t], out[t]
        level[:] = 0
        for j in range(lambdas.shape[1]):
            scale = lambdas[t, j]
            if strict:
                for i in range(row.size):
                    level[i] += np.uint8(abs(row[i]) > scale * abs(merged[i] - row[i]))
            else:
                for i in range(row.size):
                    level[i] += np.uint8(abs(row[i]) >= scale * abs(merged[i] - row[i]))


@compiled
def ties(tau, thresholds, majority, mean, out):
    """See `blocks.ties`. tau (T, B), thresholds (T,), out (B,), all float32."""
    signs, cancelled = 0, 0
    zero, one = np.float32(0), np.float32(1)
    mass, plus, minus = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    pluses, minuses = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(0, out.size, BLOCK):
        stop = min(start + BLOCK, out.size)
        n = stop - start
        for i in range(n):
            mass[i] = plus[i] = minus[i] = pluses[i] = minuses[i] = zero
        for t in range(tau.shape[0]):
            row, threshold = tau[t, start:stop], thresholds[t]
            for i in range(n):
                x = row[i] if abs(row[i]) >= threshold else zero
                mass[i] += x
                plus[i] += x if x > zero else zero
                minus[i] += x if x < zero else zero
            if mean:
                for i in range(n):
                    x = row[i] if abs(row[i]) >= threshold else zero
                    pluses[i] += one if x > zero else zero
                    minuses[i] += one if x < zero else zero
        for i in range(n):
            positive = mass[i] > zero or (mass[i] == zero and majority > 0)
            kept = plus[i] if positive else minus[i]
            count = pluses[i] if positive else minuses[i]
            out[start + i] = kept / max(count, one)  # counts stay 0 for the sum
            signs += (mass[i] > zero) - (mass[i] < zero)
            cancelled += mass[i] == zero and plus[i] > zero
    return signs, cancelled


@compiled
def histogram(bits, out):
    """Count |x| by its upper 16 bits: bits uint32 of float32, out int64 (32768,)."""
    for i in range(bits.size):
        out[(bits[i] & np.uint32(0x7FFFFFFF)) >> np.uint32(16)] += 1


@compiled
def low_histogram(bits, high, out):
    """Among the |x| whose upper 16 bits are `high`, count by the lower 16: out int64 (65536,)."""
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        if magnitude >> np.uint32(16) == high:
            out[magnitude & np.uint32(0xFFFF)] += 1
