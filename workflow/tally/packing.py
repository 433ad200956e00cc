"""Write a bundle (see `tally.bundle`): out of checkpoints, or of a merged vector and masks that exist already."""

from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from math import prod

import numpy as np
from tally.blocks import float32
from tally.bundle import CHUNK, fingerprint
from tally.checkpoints import DTYPES, Checkpoint, as_checkpoint, create
from tally.codec import BLOCK, CODECS, frame, order
from tally.encoding import FLOAT, VECTOR, base_dtypes, known, quantize, rounded, rows
from tally.errors import TallyError
from tally.masks import count, lambda_grid
from tally.merging import merge, method
from tally.progress import bar
from tally.scratch import nameless, scratch
from tally.vectors import Vectors

WIDEST = 0.00012345678901234567  # no share of weights takes more characters: its place in a header written before them


@contextmanager
def new_bundle(path, base: Checkpoint, shapes: Mapping[str, tuple], lambdas: Mapping[str, float], *, method: str,
               strict: bool, embed_base: bool, made_from: Mapping, base_dtype: str | None = None,
               vector_dtype: str = "fp32", mask_codec: str = "packed"):  # fmt: skip
    """A bundle being written, atomically. Yields (tau, masks) to be filled: float32 (P,), and task -> uint8.

    base_dtype: fp16 or bf16, what fp32 tensors of an embedded base are rounded to. vector_dtype: see `tally.encoding`.
    mask_codec: see `tally.codec`.
    """
    shapes, vector = dict(sorted(shapes.items())), known(vector_dtype, VECTOR, "vector dtype")
    inside = base_dtypes(base, known(base_dtype, FLOAT, "base dtype")) if embed_base else {}
    if base_dtype is not None and not embed_base:
        raise TallyError("a base dtype is for a base that is embedded; embed it, or leave its dtype out")
    size, tasks = sum(prod(shape) for shape in shapes.values()), sorted(lambdas)
    layout = {"tau": (vector, (size,))}
    layout |= {f"base/{name}": (dtype, base.shape(name)) for name, dtype in inside.items()}
    if vector == "I8":
        layout["scale"] = ("F32", (sum(map(rows, shapes.values())),))
    metadata = {
        "method": method,
        "tasks": tasks,
        "lambdas": dict(sorted(lambdas.items())),
        "strict": strict,
        "domain": {name: list(shape) for name, shape in shapes.items()},
        "mask_codec": known(mask_codec, CODECS, "mask codec"),
        "base_sha256": fingerprint(base),
        "base_bytes": sum(base[name].nbytes for name in base.names),
        "frozen_weights": sum(base[name].size for name in base.names) - size,
        "made_from": made_from,
    }
    if cast := {name: base.dtypes[name] for name in inside if inside[name] != base.dtypes[name]}:
        metadata["base_dtypes"] = cast
    write = _packed if mask_codec == "packed" else _zstd
    with write(path, base, inside, shapes, layout, tasks, metadata) as (tau, masks):
        yield tau, masks


@contextmanager
def _packed(path, base, inside, shapes, layout, tasks, metadata):
    """The masks, and a float32 vector, are made in the file itself."""
    (vector, (size,)), width = layout["tau"], -(-layout["tau"][1][0] // 8)
    layout = layout | {f"mask/{task}": ("U8", (width,)) for task in tasks}
    with create(path, layout, "bundle", metadata | {"densities": dict.fromkeys(tasks, WIDEST)}) as writer:
        _embed(writer, base, inside)
        masks = {task: writer.stored(f"mask/{task}") for task in tasks}
        if vector == "F32":
            yield writer.stored("tau"), masks
        else:
            with scratch(path, size, np.float32) as tau:
                yield tau, masks
                _encode(writer, tau, shapes, vector)
        writer.metadata["densities"] = _densities(masks, size)


@contextmanager
def _zstd(path, base, inside, shapes, layout, tasks, metadata):
    """The header of the file tells the frames' sizes, so they are all made before it is begun, beside it on disk."""
    (vector, (size,)), width = layout["tau"], -(-layout["tau"][1][0] // 8)
    with ExitStack() as stack:
        tau = stack.enter_context(scratch(path, size, np.float32))
        every = stack.enter_context(scratch(path, width * len(tasks), np.uint8))
        masks = [every.part(lo, lo + width) for lo in range(0, every.size, width)]
        yield tau, dict(zip(tasks, masks, strict=True))
        metadata = metadata | {"densities": _densities(dict(zip(tasks, masks, strict=True)), size)}
        stored = {
            name: tau if dtype == vector == "F32" and name == "tau"
            else stack.enter_context(scratch(path, shape[0], DTYPES[dtype]))
            for name, (dtype, shape) in layout.items() if name in ("tau", "scale")
        }  # fmt: skip
        if vector != "F32":
            _encode(stored, tau, shapes, vector)
        frames = stack.enter_context(nameless(path))
        sizes = np.zeros((len(tasks), -(-size // BLOCK)), np.uint32)
        for block, lo in enumerate(bar(range(0, size, BLOCK), "compress the masks", unit="block")):
            places = order(stored["tau"][lo : lo + BLOCK])
            for t, mask in enumerate(masks):
                sizes[t, block] = frames.write(frame(mask[lo // 8 : (lo + BLOCK) // 8], places))
        layout = layout | {f"mask/{task}": ("U8", (int(n),)) for task, n in zip(tasks, sizes.sum(axis=1, dtype="i8"))}
        with create(path, layout | {"frames": ("U32", sizes.shape)}, "bundle", metadata) as writer:
            _embed(writer, base, inside)
            writer["frames"][...] = sizes
            for name, array in stored.items():
                writer[name][...] = array
            frames.seek(0)
            ends = np.zeros(len(tasks), np.int64)
            for t, n in ((t, int(n)) for column in sizes.T for t, n in enumerate(column)):
                writer[f"mask/{tasks[t]}"][ends[t] : ends[t] + n] = np.frombuffer(frames.read(n), np.uint8)
                ends[t] += n


def _densities(masks: Mapping[str, np.ndarray], size: int) -> dict[str, float]:
    return {task: count(packed) / size for task, packed in masks.items()}


def _embed(writer, base: Checkpoint, inside: Mapping[str, str]) -> None:
    for name, dtype in inside.items():
        same = dtype == base.dtypes[name]
        writer[f"base/{name}"][...] = base[name] if same else rounded(float32(base[name]), dtype)


def _encode(writer, tau: np.ndarray, shapes: Mapping[str, tuple], dtype: str) -> None:
    if dtype != "I8":
        for lo in range(0, tau.size, CHUNK):
            writer["tau"][lo : lo + CHUNK] = rounded(tau[lo : lo + CHUNK], dtype)
        return
    start, row = 0, 0
    for shape in shapes.values():
        stop, end = start + prod(shape), row + rows(shape)
        writer["tau"][start:stop], writer["scale"][row:end] = quantize(tau[start:stop], shape)
        start, row = stop, end


def compress(path, vectors: Vectors, lambdas, *, method: str = "task-arithmetic", strict: bool = False,
             keep: float = 0.2, embed_base: bool = False, made_from: Mapping | None = None,
             base_dtype: str | None = None, vector_dtype: str = "fp32", mask_codec: str = "packed",
             **walking) -> None:  # fmt: skip
    """Write the bundle of `vectors.difference(base, finetuned)` in one pass (TIES: three); memory depends on T only.

    lambdas: one number, or task -> number. method: task-arithmetic or ties (the sum of the elected). keep: of TIES.
    Masks are made against the exact tau_mtl, whatever it is stored in.
    """
    if isinstance(lambdas, Mapping):
        unknown = sorted(set(lambdas) - set(vectors.tasks))
        if unknown:
            raise TallyError(f"lambda for {unknown[0]!r}, which is no task here; tasks are {', '.join(vectors.tasks)}")
    else:
        lambdas = dict.fromkeys(vectors.tasks, lambdas)
    lambda_grid(lambdas, vectors.tasks)  # complain before the file is begun
    merged = merged_by(method)
    with new_bundle(
        path, vectors.base, dict(zip(vectors.names, vectors.shapes, strict=True)), lambdas, method=method,
        strict=strict, embed_base=embed_base, made_from=made_from or {}, base_dtype=base_dtype,
        vector_dtype=vector_dtype, mask_codec=mask_codec,
    ) as (tau, masks):  # fmt: skip
        out = {"vector": tau, "masks": [masks[task] for task in vectors.tasks]}
        merge(vectors, merged, lambdas=lambdas, strict=strict, keep=keep, out=out, **walking)


def merged_by(masks: str) -> str:
    """The merged vector that TALL masks of a method are made against and restore from."""
    if masks not in ("task-arithmetic", "ties"):
        raise TallyError(f"unknown method {masks!r}; a bundle's is task-arithmetic or ties")
    return method(f"tall-{masks}").merged


def pack_bundle(path, base, merged, masks, lambdas: Mapping[str, float], *, method: str, embed_base: bool = True,
                made_from: Mapping | None = None, base_dtype: str | None = None, vector_dtype: str = "fp32",
                mask_codec: str = "packed") -> None:  # fmt: skip
    """Write a bundle of what exists already: tau_mtl (one tensor per domain weight) and packed masks (one per task)."""
    base, merged, masks = (
        as_checkpoint(source, f"<{label}>") for source, label in ((base, "base"), (merged, "merged"), (masks, "masks"))
    )
    merged_by(method)
    if masks.names != sorted(lambdas):
        odd = sorted(set(masks.names) ^ set(lambdas))[0]
        raise TallyError(f"{odd!r} has a mask or a lambda but not both; make {masks.label} and its search anew")
    shapes = {name: merged.shape(name) for name in merged.names}
    for name, shape in shapes.items():
        if base.shape(name) != shape:
            raise TallyError(
                f"tensor {name!r} is {list(base.shape(name))} in {base.label} and {list(shape)} in {merged.label}"
            )
    length = -(-sum(prod(shape) for shape in shapes.values()) // 8)
    for task in masks.names:
        if masks[task].shape != (length,) or masks.dtypes[task] != "U8":
            raise TallyError(f"the mask of {task!r} in {masks.label} is {masks[task].size} bytes, not {length}")
    strict = masks.metadata.get("strict") == "true"
    with new_bundle(
        path, base, shapes, lambdas, method=method, strict=strict, embed_base=embed_base, made_from=made_from or {},
        base_dtype=base_dtype, vector_dtype=vector_dtype, mask_codec=mask_codec,
    ) as (tau, packed):  # fmt: skip
        start = 0
        for name in merged.names:
            part = merged.float32(name).reshape(-1)
            tau[start : start + part.size] = part
            start += part.size
        for task in masks.names:
            packed[task][:] = masks[task]
