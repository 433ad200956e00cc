"""One file for T models: tau_mtl, one bit a weight and task, and the base or its hash (paper section 1).

theta_t = theta_0 + m_t o tau_mtl over the domain, theta_0 elsewhere. The file is a safetensors file:

    tau          float32 (P,)            tau_mtl, weights by sorted name, each in C order
    mask/<task>  uint8 (ceil(P / 8),)    m_t in numpy.packbits order
    base/<name>  as in the base          every weight of the base, if it is embedded

and metadata: kind=bundle, method, tasks, lambdas, strict (which side a tie takes), domain (name -> shape), base_sha256,
base_bytes, frozen_weights, made_from. docs/bundle.md describes each. Nothing here needs torch, except what hands out
torch tensors.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import contextmanager
from math import prod

import numpy as np
from tally.checkpoints import Checkpoint, as_checkpoint, create
from tally.errors import TallyError


def fingerprint(base) -> str:
    """sha256 of a checkpoint's names, dtypes, shapes and values: the same for one file and for its shards."""
    base, digest = as_checkpoint(base, "<base>"), hashlib.sha256()
    for name in base.names:
        digest.update(json.dumps([name, base.dtypes[name], list(base.shape(name))]).encode())
        digest.update(np.ascontiguousarray(base[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def new_bundle(path, base: Checkpoint, shapes: Mapping[str, tuple], lambdas: Mapping[str, float], *, method: str,
               strict: bool, embed_base: bool, made_from: Mapping):  # fmt: skip
    """A bundle being written, atomically: fill `writer["tau"]` and every `writer["mask/<task>"]`."""
    size = sum(prod(shape) for shape in shapes.values())
    layout = {"tau": ("F32", (size,))} | {f"mask/{task}": ("U8", (-(-size // 8),)) for task in sorted(lambdas)}
    if embed_base:
        layout |= {f"base/{name}": (base.dtypes[name], base.shape(name)) for name in base.names}
    metadata = {
        "method": method,
        "tasks": sorted(lambdas),
        "lambdas": dict(sorted(lambdas.items())),
        "strict": strict,
        "domain": {name: list(shapes[name]) for name in sorted(shapes)},
        "base_sha256": fingerprint(base),
        "base_bytes": sum(base[name].nbytes for name in base.names),
        "frozen_weights": sum(base[name].size for name in base.names) - size,
        "made_from": made_from,
    }
    with create(path, layout, "bundle", metadata) as writer:
        for name in base.names if embed_base else ():
            writer[f"base/{name}"][...] = base[name]
        yield writer


def pack_bundle(path, base, merged, masks, lambdas: Mapping[str, float], *, method: str, embed_base: bool = True,
                made_from: Mapping | None = None) -> None:  # fmt: skip
    """Write a bundle of what exists already: tau_mtl (one tensor per domain weight) and packed masks (one per task)."""
    base, merged, masks = (
        as_checkpoint(base, "<base>"),
        as_checkpoint(merged, "<merged>"),
        as_checkpoint(masks, "<masks>"),
    )
    if masks.names != sorted(lambdas):
        odd = sorted(set(masks.names) ^ set(lambdas))[0]
        raise TallyError(
            f"the task {odd!r} has a mask or a lambda but not both; make {masks.label} and its search anew"
        )
    shapes = {name: merged.shape(name) for name in merged.names}
    for name, shape in shapes.items():
        if base.shape(name) != shape:
            raise TallyError(
                f"tensor {name!r} is {list(base.shape(name))} in {base.label} and {list(shape)} in {merged.label}"
            )
    length = -(-sum(prod(shape) for shape in shapes.values()) // 8)
    for task in masks.names:
        if masks[task].shape != (length,):
            raise TallyError(f"the mask of {task!r} in {masks.label} is {masks[task].size} bytes, not {length}")
    strict = masks.metadata.get("strict") == "true"
    with new_bundle(path, base, shapes, lambdas, method=method, strict=strict, embed_base=embed_base,
                    made_from=made_from or {}) as writer:  # fmt: skip
        start, tau = 0, writer["tau"]
        for name in merged.names:
            part = merged.float32(name).reshape(-1)
            tau[start : start + part.size] = part
            start += part.size
        for task in masks.names:
            writer[f"mask/{task}"][:] = masks[task]
