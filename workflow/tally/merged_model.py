"""Write one whole model out of T fine-tuned ones, by any method of the registry; memory does not depend on P."""

from dataclasses import replace

import numpy as np
from tally import masks
from tally.bundle import CHUNK, moved
from tally.errors import TallyError
from tally.folders import model_like
from tally.merging import magnitude, merge, method, random_consensus
from tally.merging.consensus import check_k
from tally.progress import bar
from tally.scratch import scratch
from tally.streaming import walk
from tally.vectors import Vectors

KEEP = {"magnitude-masking": 0.1}  # share of the largest weights; of TIES 0.2, of magnitude pruning 1 / T


def write_merged(path, vectors: Vectors, name: str, *, alpha: float, k: int | None = None, lambdas=0.4,
                 task: str | None = None, keep: float | None = None, strict: bool = False, seed: int = 0,
                 metadata: dict | None = None, **walking) -> None:  # fmt: skip
    """theta_0 + alpha * tau with the names, shapes, dtypes and, if it is a folder, the shards of `vectors.base`, atomically.

    k: of consensus methods, votes a weight needs. lambdas: of TALL masks, one number or task -> number. task: which one
    to restore, of methods that make a model per task. Raises TallyError for what a method needs and lacks, or cannot use.
    """
    row, base = method(name), vectors.base
    if row.per_task != (task is not None):
        raise TallyError(
            f"{name} makes a model for each task; choose one of {', '.join(vectors.tasks)} with --task"
            if row.per_task else f"{name} makes one model for all tasks; leave out --task"
        )  # fmt: skip
    if task is not None and task not in vectors.tasks:
        raise TallyError(f"no task {task!r} among the fine-tuned checkpoints; there are {', '.join(vectors.tasks)}")
    if row.has_k != (k is not None):
        raise TallyError(f"{name} needs k, the votes a weight needs" if row.has_k else f"{name} takes no k")
    if row.has_k:
        check_k(k, len(vectors.tasks))
    if not np.isfinite(alpha):
        raise TallyError(f"alpha is {alpha}; it must be a finite number")
    with scratch(path, vectors.size, np.float32) as tau:
        _fill(path, tau, vectors, name, k, lambdas, task, keep, strict, seed, walking)
        spans = dict(zip(vectors.names, zip(vectors.offsets, vectors.offsets[1:], strict=False), strict=True))
        with model_like(path, base, metadata) as writer:
            for weight in bar(base.names, "write the model", unit="tensor"):
                if weight not in spans:
                    writer[weight][...] = base[weight]
                    continue
                start, stop = (int(end) for end in spans[weight])
                out, theta = writer[weight].reshape(-1), base[weight].reshape(-1)
                for lo in range(start, stop, CHUNK):
                    hi = min(lo + CHUNK, stop)
                    with np.errstate(over="ignore", invalid="ignore"):  # `moved` tells
                        delta = np.float32(alpha) * tau[lo:hi]
                    out[lo - start : hi - start] = moved(theta[lo - start : hi - start], base.dtypes[weight], delta)


def _fill(path, tau, vectors, name, k, lambdas, task, keep, strict, seed, walking) -> None:
    """tau[:] = what alpha scales."""
    row, tasks, out = method(name), len(vectors.tasks), {"vector": tau}
    ties = {"keep": 0.2 if keep is None else keep} if row.merged.startswith("ties") else {}
    if row.per_task:
        if name != "magnitude-pruning":
            merge(vectors, row.merged, out=out, **ties, **walking)
        one = replace(vectors, tasks=(task,), sources=(vectors.sources[vectors.tasks.index(task)],))
        with scratch(path, -(-vectors.size // 8), np.uint8) as packed:
            if row.masks:
                masks.tall(one, tau, lambdas, strict=strict, out=[packed], **walking)
            else:
                share = KEEP.get(name, 1 / tasks) if keep is None else keep
                magnitude(one, keep=share, out=[packed], **walking)

            def visit(ops, lo, hi, own):
                bits = np.unpackbits(packed[lo // 8 : -(-hi // 8)], count=hi - lo).view(bool)
                tau[lo:hi] = np.where(bits, ops.get(own[0]) if name == "magnitude-pruning" else tau[lo:hi], 0)

            walk(one, visit, **walking)
    elif name == "random-consensus":
        with scratch(path, vectors.size, np.uint8) as votes:
            merge(vectors, row.merged, lambdas=lambdas, strict=strict, out=out | {"votes": votes}, **ties, **walking)
            random_consensus(tau, votes, k, tasks, vectors, seed, out=tau)
    elif row.has_k:
        merge(vectors, name, k=k, lambdas=lambdas, strict=strict, out=out, **ties, **walking)
    else:
        merge(vectors, name, out=out, **ties, **walking)
