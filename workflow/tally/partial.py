"""A safetensors file that takes long to fill: what a killed process leaves behind, the next goes on with."""

import fcntl
import mmap
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tally import checksums
from tally.checkpoints import Writer, dtype_name, header_of
from tally.errors import TallyError
from tally.files import not_written, reserve


class Partial(Writer):
    """A Writer that can put what it holds on disk before it is whole."""

    def flush(self) -> None:
        self._map.flush()

    def __init__(self, file: BinaryIO, memory: mmap.mmap, spans, layout):
        super().__init__(file, np.frombuffer(memory, np.uint8), spans, layout, {})
        self._map = memory


@contextmanager
def resume(path, layout: Mapping[str, tuple], kind: str, metadata: Mapping[str, object]) -> Iterator[Partial]:
    """As `tally.checkpoints.create`, but a block that fails leaves `path`.partial, and the next with the same header goes on.

    What is done the caller has to know from the tensors: where nothing was written they are zeros. A caller that writes
    down in a tensor that a part is done calls `flush` before it does.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    layout = {name: (dtype_name(dtype), tuple(shape)) for name, (dtype, shape) in layout.items()}
    header, _, spans = header_of(layout, kind, metadata)
    size = max((stop for _, stop in spans.values()), default=len(header))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    except OSError as error:
        raise not_written(path, error) from None
    descriptor = file.fileno()
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # this process's own: forked ones do not keep it
        if os.fstat(descriptor).st_size == size and os.pread(descriptor, len(header), 0) == header:
            memory = mmap.mmap(descriptor, size)
        else:
            os.truncate(descriptor, 0)
            memory = reserve(descriptor, size)
            memory[: len(header)] = header
        writer = Partial(file, memory, spans, layout)
        yield writer
        sums = {name: checksums.digest(writer[name]) for name in layout}
        memory.flush()  # long; what follows is short, for a file with another header is not gone on with
        memory[: len(header)], _, _ = header_of(layout, kind, metadata, sums, len(header))
        memory.flush()
        os.fsync(descriptor)
        os.replace(partial, path)
    except (BlockingIOError, PermissionError):
        raise TallyError(f"{partial} is being written by another process; wait for it") from None
    except OSError as error:
        raise not_written(path, error) from None
    finally:
        file.close()
