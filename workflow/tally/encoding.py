"""Fewer bits for the base and the merged vector of a bundle than the paper's 32 a weight.

fp16 and bf16 round each weight. int8 stores rint(w / s) with one float32 s = max |w| / 127 a row of a matrix (first
axis), so that its error is at most s / 2; a vector, a scalar, and rows shorter than 64 weights share one s a tensor.
"""

from collections.abc import Mapping
from math import prod

import numpy as np
from tally.blocks import float32
from tally.checkpoints import FLOATS, Checkpoint
from tally.errors import TallyError
from tally.vectors import narrow

FLOAT = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
VECTOR = FLOAT | {"int8": "I8"}
ROW = 64  # weights from which a row has a scale of its own: half a bit a weight at the most


def known(name: str | None, table: Mapping[str, str], what: str) -> str | None:
    """The safetensors dtype; raises TallyError for a name that is not in the table."""
    if name is not None and name not in table:
        raise TallyError(f"unknown {what} {name!r}; known are {', '.join(table)}")
    return None if name is None else table[name]


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 to F32, F16, or BF16 (as uint16 bits), to nearest. Raises TallyError for what the dtype cannot hold."""
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        if dtype == "BF16":
            out = narrow(values)
            fits = (out & 0x7F80) != 0x7F80  # not the exponent of infinity and NaN
        else:
            out = values.astype({"F32": np.float32, "F16": np.float16}[dtype], copy=False)
            fits = np.isfinite(out)
    if not fits.all():
        raise TallyError(f"a weight is too large for {dtype}, or no number; choose a wider dtype or a smaller alpha")
    return out


def rows(shape: tuple[int, ...]) -> int:
    """How many scales int8 has for a weight of this shape."""
    return max(shape[0], 1) if len(shape) > 1 and prod(shape[1:]) >= ROW else 1


def quantize(weight: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(codes int8, flat; scales float32 (rows,)) of one flat float32 weight."""
    table = weight.reshape(rows(shape), -1)
    scales = abs(table).max(axis=1, initial=0) / np.float32(127)
    codes = np.rint(table / np.where(scales > 0, scales, np.float32(1))[:, None])
    return codes.astype(np.int8).reshape(-1), scales


def dequantize(codes: np.ndarray, scales: np.ndarray, shape: tuple[int, ...], start: int) -> np.ndarray:
    """float32 of flat codes start .. start + len(codes) of one weight of this shape."""
    width = max(prod(shape) // rows(shape), 1)
    first, last = start // width, (start + len(codes) - 1) // width
    spread = np.repeat(scales[first : last + 1], width)[start - first * width :][: len(codes)]
    return codes.astype(np.float32) * spread


class Restored(Mapping):
    """Tensors of an embedded base in their original dtypes, decoded when touched."""

    def __init__(self, file: Checkpoint, dtypes: Mapping[str, str]):
        self.file, self.dtypes = file, dtypes

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.dtypes:
            raise KeyError(name)
        stored, dtype = self.file[f"base/{name}"], self.file.dtypes[f"base/{name}"]
        return stored if dtype == self.dtypes[name] else rounded(float32(stored), self.dtypes[name])

    def __iter__(self):
        return iter(self.dtypes)

    def __len__(self) -> int:
        return len(self.dtypes)


def base_dtypes(base: Checkpoint, dtype: str | None) -> dict[str, str]:
    """In which dtype each tensor of the base is embedded: floats in `dtype` if given, but never wider than they are."""
    narrower = dtype is not None and dtype != "F32"
    return {
        name: dtype if narrower and base.dtypes[name] in FLOATS and base.dtypes[name] == "F32" else base.dtypes[name]
        for name in base.names
    }
