"""Open, check and write safetensors files: memory-mapped reading, atomic writing, never pickle.

The format (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header
`{name: {dtype, shape, data_offsets}, "__metadata__": {str: str}}`, then the tensors' bytes without holes.
numpy has no bfloat16, so BF16 tensors are held as uint16 bits; everything here works without torch.
"""

import json
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tally import blocks, checksums
from tally.checksums import AGAIN, BLANK, Verified
from tally.errors import TallyError
from tally.files import atomic_file, reserve
from tally.stored import Stored

FORMAT = "1"
NAMES = {
    np.dtype(f"{kind.lower()}{bits // 8}"): f"{kind}{bits}"
    for kind in "FIU"
    for bits in (8, 16, 32, 64)
    if (kind, bits) != ("F", 8)
} | {np.dtype(bool): "BOOL"}
BITS = {"BF16": np.dtype("u2"), "F8_E4M3": np.dtype("u1"), "F8_E5M2": np.dtype("u1")}  # what numpy has no type for
TORCH = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}  # what torch calls those
DTYPES = {name: dtype for dtype, name in NAMES.items()} | BITS
FLOATS = ("F32", "F16", "BF16")  # what a task vector can be made of
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True)
class Checkpoint:
    """Named tensors that are read when touched. `tensors[name]` is zero-copy in the stored dtype (BF16: uint16 bits)."""

    label: str  # the path, or what to call it in errors
    tensors: Mapping[str, np.ndarray]
    dtypes: Mapping[str, str]
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)  # of a folder: the file that holds a tensor

    @property
    def names(self) -> list[str]:
        return sorted(self.tensors)

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._of(self.tensors, name)

    def dtype(self, name: str) -> str:
        return self._of(self.dtypes, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return self._of(self.tensors.arrays if isinstance(self.tensors, Verified) else self.tensors, name).shape

    def _of(self, values: Mapping, name: str):
        if name not in values:
            raise TallyError(f"no tensor {name!r} in {self.label}; it has {len(self.tensors)} others")
        return values[name]

    def float32(self, name: str) -> np.ndarray:
        """The tensor as float32: a view where it is stored so, a converted copy for F16 and BF16."""
        array, dtype = self[name], self.dtypes[name]
        if dtype not in FLOATS:
            raise TallyError(
                f"{name!r} in {self.label} is {dtype}, not one of {', '.join(FLOATS)}; floats become so by `tally convert --dtype fp32`"
            )
        return blocks.float32(array)


def as_checkpoint(source, label: str = "<memory>") -> Checkpoint:
    """A path, a Checkpoint, or a mapping of numpy arrays or torch tensors, as a Checkpoint."""
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, (str, os.PathLike)):
        return open_checkpoint(source)
    tensors, dtypes = {}, {}
    for name, tensor in source.items():
        if hasattr(tensor, "detach"):  # torch, without importing it
            if str(tensor.layout) != "torch.strided":
                raise TallyError(f"{name!r} in {label} is {tensor.layout}; save it as tensor.to_dense()")
            tensor = tensor.detach().cpu().contiguous()
            if kind := next((kind for kind, known in TORCH.items() if str(tensor.dtype) == f"torch.{known}"), None):
                import torch

                same_size = getattr(torch, f"int{8 * tensor.element_size()}")
                tensors[name], dtypes[name] = tensor.view(same_size).numpy().view(BITS[kind]), kind
                continue
            try:
                tensor = tensor.numpy()
            except (TypeError, RuntimeError):
                raise TallyError(f"{name!r} in {label} is {tensor.dtype}, which safetensors cannot hold") from None
        tensor = np.asarray(tensor, order="C")
        dtype = tensor.dtype.newbyteorder("=")
        if dtype.name == "bfloat16":  # ml_dtypes
            tensors[name], dtypes[name] = tensor.view(np.uint16), "BF16"
        elif dtype in NAMES:
            tensors[name], dtypes[name] = tensor.astype(dtype, copy=False), NAMES[dtype]
        else:
            raise TallyError(f"{name!r} in {label} has dtype {tensor.dtype}, which safetensors cannot hold")
    return Checkpoint(label, tensors, dtypes)


def open_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Memory-map a safetensors file, an `*.index.json`, or a folder of shards; nothing but headers is read.

    Raises TallyError for a missing, truncated or corrupt file and for pickles. A tensor with a checksum is compared
    with it when it is first touched, and TallyError is raised then if it has changed.
    """
    path = Path(path)
    if path.is_dir():
        index = sorted(path.glob("*.safetensors.index.json"))
        shards = sorted(path.glob("*.safetensors"))
        if index:
            return _open_index(index[0], label=str(path))
        if not shards:
            raise TallyError(f"no *.safetensors in the folder {path}; use `tally convert` for other formats")
        return _join(str(path), [_open_file(shard) for shard in shards])
    if path.name.endswith(".index.json"):
        return _open_index(path, label=str(path))
    return _open_file(path)


def _open_index(index: Path, label: str) -> Checkpoint:
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        files = sorted(set(weight_map.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise TallyError(f"{index} is not a safetensors index (no readable `weight_map`); fetch it again") from None
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:  # never leave the folder
            raise TallyError(f"{index} names the shard {file!r} outside its own folder; fetch it again")
    whole = _join(label, [_open_file(index.parent / file) for file in files])
    missing = sorted(set(weight_map) - set(whole.tensors))
    if missing:
        raise TallyError(f"{index} lists {missing[0]!r}, but {weight_map[missing[0]]} does not hold it; fetch it again")
    return whole


def _join(label: str, shards: list[Checkpoint]) -> Checkpoint:
    arrays, sums, dtypes, metadata, files = {}, {}, {}, {}, {}
    for shard in shards:
        files |= dict.fromkeys(shard.tensors, Path(shard.label))
        for name in shard.tensors:
            if name in arrays:
                raise TallyError(f"{name!r} is in more than one shard of {label}, the second is {shard.label}")
        arrays |= shard.tensors.arrays
        sums |= shard.tensors.sums
        dtypes |= shard.dtypes
        metadata |= shard.metadata
    return Checkpoint(label, Verified(arrays, sums), dtypes, metadata, files)


def _open_file(path: Path) -> Checkpoint:
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            size = os.fstat(file.fileno()).st_size
            if head[8:9] != b"{":  # a pickle or zip may have any suffix; a safetensors header always opens with {
                old = head[:1] == b"\x80" and head[1:2] <= b"\x05"
                if old or path.suffix in PICKLES or head[:4] == b"PK\x03\x04":
                    raise TallyError(f"{path} is a pickle, which can run code when opened; use `tally convert` first")
                raise TallyError(f"{path} is no safetensors file or is cut off at its start; {AGAIN}")
            length = int.from_bytes(head[:8], "little")
            if length > size - 8:
                raise TallyError(f"{path} is truncated: {size} bytes, its header alone has {length}; {AGAIN}")
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise TallyError(f"cannot read {path}: {error.strerror}") from None
    start = 8 + length
    sums = checksums.check(path, buffer[:start])
    try:
        header = json.loads(buffer[8:start])
        metadata = dict(header.pop("__metadata__", None) or {})
        metadata.pop(checksums.KEY, None)
        sums = {name: (str(path), expected) for name, expected in zip(header, sums)}
        entries = sorted(
            (*entry["data_offsets"], name, entry["dtype"], entry["shape"]) for name, entry in header.items()
        )
        tensors, dtypes, end = {}, {}, 0
        for begin, stop, name, dtype, shape in entries:
            kind = DTYPES.get(dtype)
            if kind is None:
                raise TallyError(f"{name!r} in {path} has the unknown dtype {dtype}")
            count = int(np.prod(shape, dtype=object)) if shape else 1
            if begin != end or min(shape, default=0) < 0 or stop - begin != count * kind.itemsize:
                raise ValueError(name)
            if start + stop > size:
                raise TallyError(f"{path} is truncated: {size} bytes instead of {start + entries[-1][1]}; {AGAIN}")
            flat = np.frombuffer(buffer, kind, count, start + begin) if count else np.empty(0, kind)
            tensors[name], dtypes[name], end = flat.reshape(shape), dtype, stop
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TallyError(f"{path} has a corrupt safetensors header; {AGAIN}") from None
    if start + end != size:
        raise TallyError(f"{path} is corrupt: {size} bytes where its header says {start + end}; {AGAIN}")
    return Checkpoint(str(path), Verified(tensors, sums), dtypes, metadata)


def check_aligned(checkpoints: list[Checkpoint], names=None) -> None:
    """Raise TallyError, naming the tensor and both files, unless all have the tensors of the first, alike.

    `names` limits the check to these tensors; without it, extra tensors are errors as well.
    """
    first, *others = checkpoints
    for other in others:
        for name in names if names is not None else first.names:
            if name not in other:
                raise TallyError(f"tensor {name!r} of {first.label} is missing from {other.label}")
            if first.shape(name) != other.shape(name):
                shapes = f"{list(first.shape(name))} in {first.label} and {list(other.shape(name))} in {other.label}"
                raise TallyError(f"tensor {name!r} is {shapes}; are these fine-tuned from the same base?")
            if first.dtypes[name] != other.dtypes[name]:
                kinds = f"{first.dtypes[name]} in {first.label} and {other.dtypes[name]} in {other.label}"
                raise TallyError(f"tensor {name!r} is {kinds}; bring both to one: `tally convert OLD NEW --dtype fp32`")
        extra = sorted(set(other.tensors) - set(first.tensors)) if names is None else []
        if extra:
            raise TallyError(f"tensor {extra[0]!r} of {other.label} is missing from {first.label}")


def save(path, tensors, kind: str, metadata: Mapping[str, object] | None = None) -> None:
    """Write tensors (mapping or Checkpoint) as one safetensors file, atomically. `metadata` values become strings."""
    source = as_checkpoint(tensors, label=str(path))
    sums = {name: checksums.digest(source[name]) for name in source.tensors}
    header, order, _ = header_of({n: (source.dtypes[n], source.shape(n)) for n in sums}, kind, metadata, sums)
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for name in order:
            file.write(np.ascontiguousarray(source[name]).reshape(-1).view(np.uint8).data)


class Writer:
    """A safetensors file being filled: `writer[name]` is a writable, memory-mapped array.

    `writer.metadata` may be changed until the end, by values that take no more room in the header.
    """

    def __init__(
        self, file: BinaryIO, buffer: np.ndarray, spans: Mapping[str, tuple[int, int]], layout, metadata: dict
    ):
        self._file, self._buffer, self._spans, self._layout = file, buffer, spans, layout
        self.metadata = metadata

    def __getitem__(self, name: str) -> np.ndarray:
        (begin, stop), (dtype, shape) = self._spans[name], self._layout[name]
        return self._buffer[begin:stop].view(DTYPES[dtype]).reshape(shape)

    def stored(self, name: str) -> Stored:
        """The same, flat, for what is filled piece by piece."""
        return Stored(self._file, self[name].reshape(-1), self._spans[name][0])

    def flat(self) -> Stored:
        """All tensors as one flat array in sorted-name order; they must share one dtype."""
        (dtype,) = {dtype for dtype, _ in self._layout.values()}
        begin = min((begin for begin, _ in self._spans.values()), default=0)
        return Stored(self._file, self._buffer[begin:].view(DTYPES[dtype]), begin)


@contextmanager
def create(
    path, layout: Mapping[str, tuple], kind: str, metadata: Mapping[str, object] | None = None
) -> Iterator[Writer]:
    """Write a file larger than memory: tensors filled in place, the header last, the real name only when all is done.

    layout: name -> (dtype, shape), dtype a safetensors name ("BF16") or anything numpy understands.
    """
    layout = {name: (dtype_name(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()}
    header, _, spans = header_of(layout, kind, metadata)
    size = max((stop for _, stop in spans.values()), default=len(header))
    with atomic_file(path) as temporary, open(temporary, "wb+") as file:
        buffer = reserve(file.fileno(), size)
        writer = Writer(file, np.frombuffer(buffer, np.uint8), spans, layout, dict(metadata or {}))
        yield writer
        sums = {name: checksums.digest(writer[name]) for name in layout}
        buffer[: len(header)], _, _ = header_of(
            layout, kind, writer.metadata, sums, len(header)
        )  # IndexError if it grew
        buffer.flush()


def dtype_name(dtype) -> str:
    """What safetensors calls a dtype."""
    return dtype if isinstance(dtype, str) and dtype in DTYPES else NAMES[np.dtype(dtype)]


def header_of(layout, kind: str, metadata, sums: Mapping[str, str] | None = None, size: int = 0):
    """(header, `size` bytes or more; tensor order; name -> (begin, stop) in the file). Wide dtypes first: all are aligned."""
    order = sorted(layout, key=lambda name: (-DTYPES[layout[name][0]].itemsize, name))
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    text |= {"format": "pt", "tally_format": FORMAT, "kind": kind}
    text[checksums.KEY] = BLANK + "".join((sums or {}).get(name, BLANK) for name in order)  # places for those to come
    entries, offsets, end = {"__metadata__": dict(sorted(text.items()))}, {}, 0
    for name in order:
        dtype, shape = layout[name]
        stop = end + int(np.prod(shape, dtype=np.int64)) * DTYPES[dtype].itemsize
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, stop]}
        offsets[name], end = (end, stop), stop
    body = json.dumps(entries, separators=(",", ":")).encode()
    body += b" " * max(-(8 + len(body)) % 64, size - 8 - len(body))  # the data starts on a cache line
    start = 8 + len(body)
    spans = {name: (start + begin, start + stop) for name, (begin, stop) in offsets.items()}
    return checksums.sealed(len(body).to_bytes(8, "little") + body), order, spans
