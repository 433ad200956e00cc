import numpy as np
import pytest
from tally.errors import TallyError
from tally.masks import count, unpack
from tally.merging import magnitude
from tally.vectors import open_vectors


def setting(tasks=3, size=1001):
    tau = np.random.default_rng(0).standard_t(2, (tasks, size)).astype(np.float32)
    return tau, open_vectors({f"t{i}": {"b": row[:100], "w": row[100:]} for i, row in enumerate(tau)})


@pytest.mark.parametrize(("keep", "frozen"), [(0.1, 0), (0.1, 300), (1 / 3, 0), (1.0, 0), (0.9, 300)])
def test_a_share_has_the_authors_threshold(keep, frozen):
    tau, vectors = setting()
    found = magnitude(vectors, keep, frozen=frozen, chunk=64, threads=2)
    for row, packed in zip(tau, found):
        whole = np.sort(np.abs(np.pad(row, (0, frozen))))
        k = whole.size - int(whole.size * keep)
        np.testing.assert_array_equal(unpack(packed, row.size), np.abs(row) >= (whole[k - 1] if k else 0))


def test_counts_are_exact():
    tau, vectors = setting()
    wanted = {"t0": 0, "t1": 17, "t2": 1001}
    assert [count(row) for row in magnitude(vectors, counts=wanted)] == [0, 17, 1001]
    kept = unpack(magnitude(vectors, counts=wanted), 1001)[1]
    assert np.abs(tau[1][kept]).min() > np.abs(tau[1][~kept]).max()


def test_bad_requests():
    _, vectors = setting()
    for bad in ({}, {"keep": 0.1, "counts": {"t0": 1}}):
        with pytest.raises(TallyError, match="either keep"):
            magnitude(vectors, **bad)
    with pytest.raises(TallyError, match="no count for the task 't1'"):
        magnitude(vectors, counts={"t0": 1})
    with pytest.raises(TallyError, match="keep is 10"):
        magnitude(vectors, 10)
