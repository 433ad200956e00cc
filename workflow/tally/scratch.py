"""Room on disk for what does not fit memory and is needed for a moment."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from tally.errors import TallyError


@contextmanager
def scratch(path, size: int, dtype) -> Iterator[np.ndarray]:
    """An array (size,) on disk beside `path`, in a file that has no name, so that nothing can be left behind."""
    folder, count = Path(path).parent, size * np.dtype(dtype).itemsize
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            if hasattr(
                os, "posix_fallocate"
            ):  # a full disk is an error here, not a crash while the map is being filled
                os.posix_fallocate(file.fileno(), 0, count)
            else:
                file.truncate(count)
        except OSError as error:
            why = f"{error.strerror or error}; free some space or choose another folder"
            raise TallyError(f"cannot write beside {path}: {why}") from None
        yield np.memmap(file, dtype, "r+", shape=(size,))
