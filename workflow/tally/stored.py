"""A large flat array in a file, filled piece by piece."""

import os
from typing import BinaryIO

import numpy as np


class Stored:
    """`[lo:hi]` is read through a map of the file, and written past it, with pwrite; both see the same pages.

    Every new page that is filled through a map costs a fault: on a virtual machine a second and more for a GB.
    """

    def __init__(self, file: BinaryIO, array: np.ndarray, begin: int = 0):
        """array: flat, the map of the file from byte `begin`."""
        self._file, self._array, self._begin = file, array, begin
        self.shape, self.size, self.dtype = array.shape, array.size, array.dtype

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._array[part]

    def __setitem__(self, part: slice, values) -> None:
        place = self._array[part]
        data = memoryview(np.ascontiguousarray(np.broadcast_to(values, place.shape), self.dtype)).cast("B")
        at = self._begin + part.indices(self.size)[0] * self.dtype.itemsize
        while data:
            count = os.pwrite(self._file.fileno(), data, at)
            data, at = data[count:], at + count

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._array, dtype, copy=copy)
