import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally.checkpoints import create, open_checkpoint
from tally.scratch import scratch

SPAN = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(SPAN, st.floats(-1024, 1024, width=32)), max_size=5))
def test_is_an_array(tmp_path_factory, writes):
    expected = np.zeros(40, np.float32)
    with scratch(tmp_path_factory.mktemp("stored") / "x", 40, np.float32) as stored:
        assert stored.size == 40
        assert stored.shape == (40,)
        assert stored.dtype == np.float32
        for (lo, hi), value in writes:
            expected[lo:hi] = value * np.arange(hi - lo, dtype=np.float32)
            stored[lo:hi] = value * np.arange(hi - lo, dtype=np.float32)
            np.testing.assert_array_equal(stored[: hi + 1], expected[: hi + 1])
        stored[3:5] = 7  # one value, and of another type
        expected[3:5] = 7
        np.testing.assert_array_equal(np.asarray(stored), expected)
        with pytest.raises(ValueError, match="broadcast"):
            stored[0:3] = np.zeros(4)


def test_in_a_file_with_others(tmp_path):
    """Each lands in its tensor, and nowhere else."""
    layout = {"a": ("U8", (5,)), "b": ("F32", (2, 3)), "c": ("F32", (4,))}
    with create(tmp_path / "x.safetensors", layout, "model") as writer:
        writer.stored("a")[1:4] = np.uint8([7, 8, 9])
        writer.stored("b")[2:] = [1, 2, 3, 4]
        writer["c"][:] = 5
    found = open_checkpoint(tmp_path / "x.safetensors")
    assert {name: found[name].tolist() for name in found.names} == {
        "a": [0, 7, 8, 9, 0],
        "b": [[0, 0, 1], [2, 3, 4]],
        "c": [5] * 4,
    }
    with create(tmp_path / "y.safetensors", {name: layout[name] for name in "bc"}, "model") as writer:
        writer.flat()[:] = np.arange(10)
    found = open_checkpoint(tmp_path / "y.safetensors")
    assert found["b"].ravel().tolist() + found["c"].tolist() == list(range(10))
    with pytest.raises(ValueError, match="closed"):
        writer.flat()[:] = 0  # the descriptor may be another file's by now


def test_written_in_parts_and_of_a_part(tmp_path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:7], at))  # as the system may
    with scratch(tmp_path / "x", 30, np.float32) as stored:
        stored.part(10, 20)[2:5] = [1, 2, 3]
        assert stored[:].nonzero()[0].tolist() == [12, 13, 14]
        assert stored.part(10, 20).part(2, 4)[:].tolist() == [1, 2]
        with pytest.raises(ValueError, match="one in 2"):
            stored[::2] = 1
