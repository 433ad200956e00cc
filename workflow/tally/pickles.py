"""Pickles of plain values and numpy arrays, read without running what they say.

The unpickler knows no other name than those an array is made of, and builds those itself.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that is no array."""


class _Dtype:
    """Stands in for numpy.dtype: numbers, booleans, and the object dtype of a pickled dictionary's 0-d array."""

    def __init__(self, code, align=False, copy=True):
        if not (isinstance(code, str) and re.fullmatch(r"[biuf]\d|O8?", code)):
            raise Refused(f"an array of dtype {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state):
        self.order = {"|": "=", "<": "<", ">": ">", "=": "="}[state[1]]

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands in for numpy.ndarray while it is being unpickled; `value` is the array."""

    value: object = None

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw  # bytes of Python 2, whose type was str
        if dtype.code.startswith("O"):
            if shape != () or not isinstance(raw, list):
                raise Refused("an array of objects")
            (self.value,) = raw
        else:
            self.value = np.frombuffer(raw, dtype.numpy).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind, shape, code) -> _Array:
    return _Array()


def _from_buffer(raw, dtype, shape, order) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _encode(text, codec) -> bytes:  # how protocol 2, which torch.save uses, spells bytes
    return text.encode("latin-1")


class Unpickler(pickle._Unpickler):  # in Python: the one in C takes 60 GB for five bytes that ask for a memo entry
    """Builds dictionaries, lists, numbers, strings and numpy arrays. Any other name in the pickle is an error."""

    KNOWN = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode,
    } | {
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("numeric", "_frombuffer", _from_buffer),
        )
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise Refused(f"{module}.{name}")
        return self.KNOWN[module, name]


def _plain(value):
    if isinstance(value, _Array):
        return _plain(value.value)
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def unpickle(file) -> object:
    """What an open file's pickle holds, arrays as numpy arrays. Raises UnpicklingError for anything but arrays."""
    try:
        return _plain(Unpickler(file, encoding="latin-1").load())  # Python 2 wrote arrays as text
    except pickle.UnpicklingError:
        raise
    except (MemoryError, Exception) as error:  # a broken or hostile pickle can fail in any way
        raise pickle.UnpicklingError(f"{type(error).__name__} {error}".strip()) from None
