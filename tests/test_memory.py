"""Anonymous memory of the engine: neither the number of weights nor, but for small tables, the number of tasks is in it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tally
from tally.checkpoints import create

# resident less shared: the pages of memory-mapped files are left out, which the system takes back when it has to
CHILD = """
import json, os, sys, threading
from tally.bundle import open_bundle
from tally.merged_model import write_merged
from tally.packing import compress
from tally.vectors import difference

statm = os.open("/proc/self/statm", os.O_RDONLY)

def anonymous():
    _, resident, shared, *_ = map(int, os.pread(statm, 99, 0).split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

def peak(work):
    seen, over = [], threading.Event()
    def watch():
        while not over.wait(0.001):
            seen.append(anonymous())
    thread = threading.Thread(target=watch)
    thread.start()
    work()
    over.set()
    thread.join()
    return max(seen)

def works(weights, tasks):
    base, *tuned = (f"{folder}/{weights}-{name}" for name in range(tasks + 1))
    vectors = difference(base, {f"t{t:02}": path for t, path in enumerate(tuned)}, "all")
    merged = dict.fromkeys(("consensus-ties", "random-consensus"), {"k": 2})
    merged |= dict.fromkeys(("tall-task-arithmetic", "magnitude-pruning"), {"task": "t01"})
    yield "packed", lambda: compress(f"{folder}/packed", vectors, 0.4, method="ties", embed_base=True)
    yield "zstd", lambda: compress(f"{folder}/zstd", vectors, 0.4, mask_codec="zstd")
    yield "restored", lambda: open_bundle(f"{folder}/packed").restore("t01", f"{folder}/restored")
    for name, options in merged.items():
        yield name, lambda: write_merged(f"{folder}/merged", vectors, name, alpha=1.0, **options)

folder, *sizes = json.loads(sys.argv[1])
for _, work in works(*sizes[0]):
    work()
# the first takes milliseconds, and the watcher is not always there when it peaks
rounds = [9] + [1] * (len(sizes) - 1)
print(json.dumps([
    {name: max(peak(work) for _ in range(n)) for name, work in works(*size)} for size, n in zip(sizes, rounds)
]))
"""


@pytest.fixture
def peaks(tmp_path):
    """Name of the work -> most bytes meanwhile, for (weights, tasks) after (weights, tasks)."""

    def measure(*sizes):
        for weights, tasks in sizes:
            for name in range(tasks + 1):
                with create(tmp_path / f"{weights}-{name}", {"w": ("F32", (weights // 1024, 1024))}, "model") as writer:
                    writer["w"][0] = np.random.default_rng(name).standard_normal(1024)  # zeros elsewhere: a sparse file
        run = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps([str(tmp_path), *sizes])],
            env=os.environ
            | {
                "PYTHONPATH": os.path.dirname(os.path.dirname(tally.__file__)),
                "OMP_NUM_THREADS": "1",
                "MALLOC_MMAP_THRESHOLD_": "1000000",  # what is freed is given back at once
            },
            check=True,
            capture_output=True,
        )
        for path in tmp_path.iterdir():
            path.unlink()
        return json.loads(run.stdout)

    return measure


def test_memory_depends_on_neither_weights_nor_tasks(peaks):
    weights, tasks = 1 << 20, 4
    few, wide, deep = peaks((weights, tasks), (16 * weights, tasks), (weights, 3 * tasks))
    for work in few:
        assert wide[work] - few[work] < 1.5 * weights  # of 15 * weights more, not a bit each is held at the peak
        assert deep[work] - few[work] < 2 * tasks * 2 * weights  # half of the task vectors: TIES has tables of bins
