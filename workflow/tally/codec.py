"""Codecs of a bundle's masks, both lossless: "packed", one bit a weight, and "zstd", compressed frames.

Alone a mask is hardly compressible. But a TALL mask follows the size of tau_mtl, which the reader has: with the weights
of a block in the order of their stored |tau_mtl|, a mask's bits go from mostly one value to mostly the other, and every
piece of it is cheap to code with statistics of its own. docs/bundle.md has the sizes.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from tally.checkpoints import Checkpoint
from tally.errors import TallyError

CODECS = {"packed": "packed", "zstd": "zstd"}
BLOCK = 1 << 20  # weights that are sorted together, a frame a task: a multiple of 8. Memory depends on it and not on P
PIECE = 1 << 13  # bytes of a sorted mask that share one Huffman table of zstd
LEVEL = 1  # higher levels look for repetitions, which sorted bits have by accident only: slower and larger


def order(stored: np.ndarray) -> np.ndarray:
    """Indices that sort a block of tau_mtl, in its stored dtype (BF16: uint16 bits), by magnitude; stable.

    Of float32 the upper 16 bits below the sign count: two bytes are sorted by radix, in linear time.
    """
    if stored.dtype == np.int8:
        size = abs(stored.astype(np.int16)).astype(np.uint16)
    elif stored.itemsize == 4:
        size = (stored.view(np.uint32) << 1 >> 16).astype(np.uint16)
    else:
        size = stored.view(np.uint16) & np.uint16(0x7FFF)
    return np.argsort(size, kind="stable")


def frame(packed: np.ndarray, places: np.ndarray) -> bytes:
    """One zstd frame of one block of a packed mask, bits in the order `places`; with zstd's checksum."""
    import zstandard

    bits = np.packbits(np.unpackbits(packed, count=places.size)[places])
    stream = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=bits.size)
    parts = []
    for lo in range(0, bits.size, PIECE):
        parts += [stream.compress(bits[lo : lo + PIECE].data), stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join([*parts, stream.flush()])


def unframe(data: np.ndarray, places: np.ndarray, where: str) -> np.ndarray:
    """The packed mask, uint8, of one frame. Raises TallyError, naming `where`, for a frame that is not whole."""
    import zstandard

    try:
        if zstandard.frame_content_size(data) != -(-places.size // 8):  # before memory is taken for it
            raise zstandard.ZstdError("another size")
        content = np.frombuffer(zstandard.ZstdDecompressor().decompress(data), np.uint8)
    except zstandard.ZstdError:
        raise TallyError(f"{where} is damaged: its zstd frame is not whole; make or fetch it again") from None
    bits = np.empty(places.size, np.uint8)
    bits[places] = np.unpackbits(content, count=places.size)
    return np.packbits(bits)


class Frames:
    """The zstd masks of an open bundle. The last two blocks are kept, since who reads goes forward.

    file: `tau`, `mask/<task>` (a task's frames one after the other) and `frames`, uint32 (T, blocks), their bytes.
    """

    def __init__(self, file: Checkpoint, tasks: Sequence[str], size: int):
        self.file, self.size = file, size
        ends = np.cumsum(np.pad(file["frames"], ((0, 0), (1, 0))), axis=1, dtype=np.int64)
        self.ends: Mapping[str, np.ndarray] = dict(zip(tasks, ends, strict=True))
        self._order = lru_cache(2)(lambda block: order(file["tau"][block * BLOCK : (block + 1) * BLOCK]))
        self._block = lru_cache(2 * len(tasks))(self._decoded)

    def fit(self) -> bool:
        """Whether there is a frame for every block and task, and they are all there is."""
        return self.file.dtypes["frames"] == "U32" and all(
            self.file.dtypes[f"mask/{task}"] == "U8"
            and self.file.shape(f"mask/{task}") == (ends[-1],)
            and len(ends) - 1 == -(-self.size // BLOCK)
            for task, ends in self.ends.items()
        )

    def packed(self, task: str, lo: int, hi: int) -> np.ndarray:
        """The mask's bytes of weights lo .. hi, uint8; lo is a multiple of 8."""
        blocks = range(lo // BLOCK, -(-hi // BLOCK))
        spans = ((max(lo - b * BLOCK, 0) // 8, -(-min(hi - b * BLOCK, BLOCK) // 8)) for b in blocks)
        return np.concatenate([self._block(task, b)[slice(*span)] for b, span in zip(blocks, spans, strict=True)])

    def _decoded(self, task: str, block: int) -> np.ndarray:
        data = self.file[f"mask/{task}"][slice(*self.ends[task][block : block + 2])]
        return unframe(data, self._order(block), f"the mask of {task!r} in {self.file.label}")
