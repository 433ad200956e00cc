"""The inner loops, compiled by numba: the same arithmetic as `blocks`, bit for bit, some four times as fast.

The inner loops run over contiguous weights without branches so that LLVM vectorises them. `fastmath` stays off: it would allow
fused multiply-add, whose single rounding differs from numpy's two. All release the GIL; threads each take a chunk.
"""

import numba
import numpy as np
from numba import carray, types
from numba.extending import intrinsic
from tally import blocks
from tally.blocks import bits, get, put

__all__ = ["bits", "differences", "get", "histogram", "levels", "low_histogram", "put", "ties", "total"]

BLOCK = 2048  # weights whose running sums stay in the first-level cache


def compiled(function):
    """numba.njit, with compiled code kept on disk where a cache folder is writable."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available": neither __pycache__ nor the user's cache folder is writable
        return numba.njit(function, **options)


@intrinsic
def _pointer(context, address, kind):
    """An address as the pointer that numba.carray takes."""

    def cast(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(address, kind), cast


@compiled
def _differences(thetas, bfloat16, base, size, out, start):
    """thetas uint64 (T,) and base: addresses of `size` weights, base 0 for none; whether thetas are bfloat16's bits."""
    largest = np.uint32(0)
    for t in range(thetas.size):
        for lo in range(0, size, BLOCK):
            n = min(size - lo, BLOCK)
            row = out[t, start + lo : start + lo + n]
            bits = row.view(np.uint32)
            if bfloat16:
                low = carray(_pointer(thetas[t] + np.uint64(2 * lo), np.uint16), n)
                for i in range(n):
                    bits[i] = np.uint32(low[i]) << np.uint32(16)
            else:
                whole = carray(_pointer(thetas[t] + np.uint64(4 * lo), np.float32), n)
                for i in range(n):
                    row[i] = whole[i]
            if base:
                less = carray(_pointer(base + np.uint64(4 * lo), np.float32), n)
                for i in range(n):
                    row[i] -= less[i]
            for i in range(n):
                largest = max(largest, bits[i] & np.uint32(0x7FFFFFFF))
    return largest < np.uint32(0x7F800000)  # what has all bits of the exponent is infinite or NaN


def differences(thetas, base, out, start) -> bool:
    """See `blocks.differences`, which does what is not float32 or bfloat16, whole, aligned and of one length.

    One compiled call for all tasks, for threads wait for each other at every call from Python. It takes addresses: for a
    tuple of arrays numba would compile anew for every number of tasks.
    """
    dtype, size = thetas[0].dtype, thetas[0].size
    base = None if base is None else blocks.float32(base)

    def plain(x: np.ndarray, dtype) -> bool:
        return x.dtype == dtype and x.shape == (size,) and x.flags.c_contiguous and x.flags.aligned

    fits = len(thetas) == len(out) and start + size <= out.shape[1]
    known = dtype in (np.float32, np.uint16) and (base is None or plain(base, np.float32))
    if not (fits and known and all(plain(theta, dtype) for theta in thetas)):
        return blocks.differences(thetas, base, out, start)
    addresses = np.array([theta.ctypes.data for theta in thetas], np.uint64)
    at = np.uint64(0 if base is None else base.ctypes.data)
    return _differences(addresses, dtype == np.uint16, at, size, out, start)


@compiled
def total(tau, out):
    """See `blocks.total`. tau (T, B), out (B,), all float32."""
    for start in range(0, out.size, BLOCK):
        part = out[start : start + BLOCK]
        part[:] = tau[0, start : start + BLOCK]
        for t in range(1, tau.shape[0]):
            row = tau[t, start : start + BLOCK]
            for i in range(part.size):
                part[i] += row[i]


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
    few = 32
    for start in range(0, bits.size, few):  # mostly none of so many has them, which vectorises
        part = bits[start : start + few]
        found = 0
        for i in range(part.size):
            found += ((part[i] >> np.uint32(16)) & np.uint32(0x7FFF)) == high
        if found:
            for i in range(part.size):
                if ((part[i] >> np.uint32(16)) & np.uint32(0x7FFF)) == high:
                    out[part[i] & np.uint32(0xFFFF)] += 1
