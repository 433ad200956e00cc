"""Pickles without running them: what Python 2 wrote. tests/test_convert.py has the rest."""

import io
import pickle
import struct

import numpy as np
import pytest
from tally.pickles import Refused, unpickle


def text(content: bytes) -> bytes:
    return (
        b"U" + bytes([len(content)]) + content
        if len(content) < 256
        else b"T" + struct.pack("<i", len(content)) + content
    )


def number(n: int) -> bytes:
    return b"K" + bytes([n]) if n < 256 else b"J" + struct.pack("<i", n)


def array(a: np.ndarray) -> bytes:
    """The opcodes with which Python 2 pickled an array of bytes, as in CIFAR's batches."""
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R(" + number(3) + text(b"|")
    kind += b"NNN" + 2 * b"J\xff\xff\xff\xff" + number(0) + b"tb"
    state = number(1) + b"(" + b"".join(map(number, a.shape)) + b"t" + kind + b"\x89" + text(a.tobytes())
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text(b"b")
        + b"\x87R("
        + state
        + b"tb"
    )


def test_a_batch_that_python_2_wrote():
    data = np.random.default_rng(0).integers(0, 256, (3, 300), np.uint8)
    batch = b"\x80\x02}(" + text(b"data") + array(data) + text(b"labels") + b"](K\x01K\x02K\x00eu."
    content = unpickle(io.BytesIO(batch))
    assert content["labels"] == [1, 2, 0]
    assert (content["data"] == data).all()


def test_any_other_name_is_refused():
    with pytest.raises(Refused, match=r"builtins\.eval"):
        unpickle(io.BytesIO(pickle.dumps(eval)))
