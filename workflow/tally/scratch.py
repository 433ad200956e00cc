"""Room on disk for what does not fit memory and is needed for a moment."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tally.errors import TallyError
from tally.stored import Stored


@contextmanager
def nameless(path) -> Iterator[BinaryIO]:
    """An open file on the disk of `path`, but without a name, so that nothing can be left behind."""
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        why = f"{error.strerror or error}; free some space or choose another folder"
        raise TallyError(f"cannot write beside {path}: {why}") from None


@contextmanager
def scratch(path, size: int, dtype) -> Iterator[Stored]:
    """An array (size,) in a nameless file beside `path`."""
    count = size * np.dtype(dtype).itemsize
    with nameless(path) as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, not a crash while the map is being filled
            os.posix_fallocate(file.fileno(), 0, count)
        else:
            file.truncate(count)
        yield Stored(file, np.memmap(file, dtype, "r+", shape=(size,)))
