"""A large flat array in a file, filled piece by piece."""

import os
from typing import BinaryIO

import numpy as np


class Stored:
    """`[lo:hi]` is read through a map of the file, and written around the map, with pwrite; Linux and macOS show both the same.

    Every new page that is filled through a map costs a fault: on a virtual machine a second and more for a GB.
    Values must not be a part of the same array.
    """

    def __init__(self, file: BinaryIO, array: np.ndarray, begin: int = 0):
        """array: flat, the map of the file from byte `begin`."""
        self._file, self._array, self._begin = file, array, begin
        self.shape, self.size, self.dtype = array.shape, array.size, array.dtype

    def __getitem__(self, part: slice) -> np.ndarray:
        return self._array[part]

    def __setitem__(self, part: slice, values) -> None:
        lo, _, step = part.indices(self.size)
        if step != 1:
            raise ValueError(f"neighbours are written, not one in {step}")
        place = self._array[part]
        data = memoryview(np.ascontiguousarray(np.broadcast_to(values, place.shape), self.dtype)).cast("B")
        at = self._begin + lo * self.dtype.itemsize
        while data:
            count = os.pwrite(self._file.fileno(), data, at)
            data, at = data[count:], at + count

    def part(self, lo: int, hi: int) -> "Stored":
        """A stretch of it as an array of its own."""
        return Stored(self._file, self._array[lo:hi], self._begin + lo * self.dtype.itemsize)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._array, dtype, copy=copy)
