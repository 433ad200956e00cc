"""Walk T aligned vectors in cache-sized chunks; find an exact global k-th magnitude without holding a vector in memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
from tally import blocks
from tally.errors import TallyError

CACHE = 4 << 20  # bytes of all tasks' chunks together, well within a third-level cache
NUMBA_FROM = 80_000_000  # weights times tasks from which numba's half second of start-up pays
TRANSFER = (
    1 << 28
)  # bytes of all tasks' chunks in one transfer to a GPU, where their temporaries take three times as much


def backend(work: int, device: str = "cpu") -> ModuleType:
    """The module with the inner loops (`blocks`, `kernels` or `device`) for `work` weights times tasks."""
    if device != "cpu":
        from tally import device as torch_blocks

        torch_blocks.use(device)
        return torch_blocks
    if work >= NUMBA_FROM:
        try:
            from tally import kernels

            return kernels
        except ImportError:  # numba is optional; numpy gives the same bits
            pass
    return blocks


def walk(
    vectors, visit: Callable, *, threads: int = 1, chunk: int | None = None, device: str = "cpu", starts=None
) -> list:
    """Call `visit(ops, lo, hi, tau)` on every chunk, or on those that begin at `starts`; return the results in order.

    ops: module of inner loops; tau: float32 (T, hi - lo), weights lo..hi of the flat domain, valid only during the call.
    Chunks start at multiples of 8 weights, so packed masks can be written a chunk at a time. Visits may run at once in
    `threads` threads, each on its own weights. Raises TallyError at the first NaN or infinity, naming tensor and file.
    """
    tasks, size = len(vectors.tasks), vectors.size
    if threads < 1:
        raise TallyError(f"threads is {threads}; it must be at least 1")
    if chunk is None:
        chunk = max((CACHE if device == "cpu" else TRANSFER) // (4 * tasks), 16384)
    chunk = -(-chunk // 8) * 8
    ops = backend(tasks * size, device)
    local = threading.local()

    def step(lo: int):
        hi = min(lo + chunk, size)
        if not hasattr(local, "buffer"):
            local.buffer = np.empty(tasks * min(chunk, size), np.float32)
        tau = local.buffer[: tasks * (hi - lo)].reshape(tasks, hi - lo)
        vectors.fill(lo, hi, tau, ops.differences)
        return visit(ops, lo, hi, ops.put(tau))

    starts = range(0, size, chunk) if starts is None else starts
    if threads == 1:
        return [step(lo) for lo in starts]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(step, lo) for lo in starts]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def rank(size: int, keep: float, frozen: int = 0) -> int:
    """Which smallest magnitude (1-based, of `size`) is the threshold when the top share `keep` stays.

    As the authors' `topk_values_mask`: the (n - int(n * keep))-th of n, at or above which weights stay. `frozen` zeros
    are counted in n, as their vectors contain the frozen weights (paper section 5, item 11). 0 or less: keep all.
    """
    if not 0 <= keep <= 1:
        raise TallyError(f"keep is {keep}; it is a share of the weights, between 0 and 1")
    if frozen < 0:
        raise TallyError(f"frozen is {frozen}; it is a number of weights, 0 or more")
    return size + frozen - int((size + frozen) * keep) - frozen


def kth_magnitudes(vectors, ranks: list[int], **walking) -> np.ndarray:
    """Exact ranks[t]-th smallest |tau_t| (1-based) of every task, float32 (T,); 0 for a rank below 1, inf above the size.

    Radix selection on the bits of float32, which sort like magnitudes: one pass counts the upper 16 bits, a second the
    lower 16 within the bin that holds the rank. Memory does not depend on the number of weights.
    """
    tasks = len(vectors.tasks)
    ranks = np.asarray(ranks, np.int64)
    if not ((ranks >= 1) & (ranks <= vectors.size)).any():
        return np.where(ranks < 1, np.float32(0), np.float32(np.inf))

    def count(width: int, add: Callable) -> np.ndarray:
        local, every = threading.local(), []

        def visit(ops, lo, hi, tau):
            if not hasattr(local, "sums"):
                local.sums = np.zeros((tasks, width), np.int64)
                every.append(local.sums)
            for t, bits in enumerate(ops.bits(tau)):
                add(ops, t, bits, local.sums[t])

        walk(vectors, visit, **walking)
        return sum(every)  # integers: the order of chunks and threads does not matter

    high, below = _locate(count(1 << 15, lambda ops, t, bits, out: ops.histogram(bits, out)), ranks)
    low, _ = _locate(
        count(1 << 16, lambda ops, t, bits, out: ops.low_histogram(bits, int(high[t]), out)), ranks - below
    )
    values = (high.astype(np.uint32) << 16 | low.astype(np.uint32)).view(np.float32)
    return np.where(ranks < 1, np.float32(0), np.where(ranks > vectors.size, np.float32(np.inf), values))


def _locate(counts: np.ndarray, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per row, the bin that holds the rank and how many lie in the bins below it."""
    sums = np.cumsum(counts, axis=1)
    bins = np.minimum((sums < ranks[:, None]).sum(axis=1), counts.shape[1] - 1)
    return bins, np.where(bins > 0, sums[np.arange(len(bins)), bins - 1], 0)
