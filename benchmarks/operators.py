"""Why the inner loops are a kernel of their own: the same arithmetic in numpy, torch's eager operators, and numba.

    python benchmarks/operators.py --tasks 8 --block 65536

One thread, one block of task vectors that is in the cache, as the engine walks; nanoseconds a weight and task, the median
of the repetitions. Then torch's own profile of the masks: every operator, its bytes (what it reads and writes, from the
shapes), its rate, and the time of as many calls on empty tensors, which is what calling costs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from tally import blocks, device, kernels

LAMBDAS = np.float32([0.2, 0.3, 0.4, 0.5, 0.6])


def nanoseconds(work: Callable, weights: int, repeat: int) -> float:
    """Median time of a call, over the weights it handles."""
    work()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) / weights * 1e9


def calls(ops, tau: np.ndarray) -> dict[str, Callable]:
    """The inner loops of a pass, on one block."""
    tasks, block = tau.shape
    here, merged, levels = ops.put(tau), tau.sum(axis=0), np.empty(tau.shape, np.uint8)
    out, sums, grid = np.empty(block, np.float32), np.zeros((tasks, 1 << 15), np.int64), np.tile(LAMBDAS, (tasks, 1))
    thresholds = np.quantile(abs(tau), 0.8, axis=1).astype(np.float32)

    def histograms():
        for bits, row in zip(ops.bits(here), sums):
            ops.histogram(bits, row)

    return {
        "sum": lambda: ops.total(here, out),
        "masks, 5 lambdas": lambda: ops.levels(here, merged, grid, False, levels),
        "TIES": lambda: ops.ties(here, thresholds, 1, True, out),
        "histogram": histograms,
    }


def profile(tau: np.ndarray, repeat: int) -> list[tuple[str, float, float, float]]:
    """Of torch's masks: (operator, calls a task, nanoseconds a weight and task, bytes a weight and task)."""
    levels, weights = calls(device, tau)["masks, 5 lambdas"], tau.size
    levels()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as seen:
        for _ in range(repeat):
            levels()
    rows = {}
    for event in seen.key_averages():
        if event.self_cpu_time_total:
            rows[event.key] = (
                event.count / repeat / len(tau),
                event.self_cpu_time_total * 1e3 / repeat / weights,
            )
    return sorted(((name, *row) for name, row in rows.items()), key=lambda row: -row[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--block", type=int, nargs="+", default=[1 << 16, 1 << 22], help="weights")
    parser.add_argument("--repeat", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for block in options.block:
        tau = np.random.default_rng(0).standard_t(3, (options.tasks, block)).astype(np.float32)
        print(
            f"\n{options.tasks} tasks, {block} weights: ns a weight and task\n{'':18}{'numpy':>8}{'torch':>8}{'numba':>8}"
        )
        times = {
            ops: {name: nanoseconds(call, tau.size, options.repeat) for name, call in calls(ops, tau).items()}
            for ops in (blocks, device, kernels)
        }
        for name in times[blocks]:
            print(f"{name:18}" + "".join(f"{times[ops][name]:8.2f}" for ops in times))
        empty = nanoseconds(calls(device, tau[:, :1])["masks, 5 lambdas"], tau.size, options.repeat)
        print(f"of torch's masks, {empty:.2f} are what calling its operators costs: the same calls on single weights")
        print(f"{'operator':22}{'calls':>6}{'ns':>8}")
        for name, count, own in profile(tau, options.repeat):
            print(f"{name:22}{count:6.1f}{own:8.3f}")


if __name__ == "__main__":
    main()
