"""Why the inner loops are a kernel of their own: the same arithmetic in numpy, torch's eager operators, and numba.

    python benchmarks/operators.py --tasks 8 --block 65536

One thread, one block of task vectors that stays in the cache, as the engine walks: nanoseconds a weight and task, the
fastest of the repetitions. Then torch's own profile of its masks and TIES, by operator, and how many of
the nanoseconds are calling them: the same operators on one weight of each task.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from tally import blocks, device, kernels

LAMBDAS = np.float32([0.2, 0.3, 0.4, 0.5, 0.6])
LIBRARIES = {"numpy": blocks, "torch": device, "numba": kernels}


def nanoseconds(work: Callable, weights: int, repeat: int) -> float:
    """Of a call, over the weights it handles."""
    work()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) / weights * 1e9


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


def profile(work: Callable, tasks: int, weights: int, repeat: int) -> dict[str, tuple[float, float]]:
    """operator -> (calls a task, nanoseconds a weight and task in itself), the fastest of the repetitions."""
    found = {}
    for _ in range(repeat):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            work()
        for event in seen.key_averages():
            own = event.self_cpu_time_total * 1e3 / weights
            found[event.key] = event.count / tasks, min(own, found.get(event.key, (0, own))[1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--block", type=int, default=1 << 16, help="weights")
    parser.add_argument("--repeat", type=int, default=21)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tau = np.random.default_rng(0).standard_t(3, (options.tasks, options.block)).astype(np.float32)
    loops = {name: calls(ops, tau) for name, ops in LIBRARIES.items()}
    print(f"{options.tasks} tasks, {options.block} weights: ns a weight and task")
    print(f"{'':18}" + "".join(f"{name:>8}" for name in loops))
    for loop in loops["numpy"]:
        times = [nanoseconds(work[loop], tau.size, options.repeat) for work in loops.values()]
        print(f"{loop:18}" + "".join(f"{own:8.2f}" for own in times))
    for loop in ("masks, 5 lambdas", "TIES"):
        called = nanoseconds(calls(device, tau[:, :1])[loop], tau.size, options.repeat)
        rows = profile(loops["torch"][loop], options.tasks, tau.size, options.repeat)
        print(f"\ntorch, {loop}: {sum(own for _, own in rows.values()):.2f} ns, of which calling {called:.2f}")
        print(f"{'operator':18}{'calls a task':>13}{'ns':>8}{'ns a call':>11}")
        for name, (count, own) in sorted(rows.items(), key=lambda row: -row[1][1])[:8]:
            print(f"{name:18}{count:13.1f}{own:8.2f}{own / count:11.2f}")


if __name__ == "__main__":
    main()
