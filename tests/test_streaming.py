import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally import streaming
from tally.errors import TallyError
from tally.streaming import kth_magnitudes, rank, walk
from tally.vectors import open_vectors


def as_vectors(tau):
    return open_vectors({f"t{i:02}": {"b": row[:3], "w": row[3:]} for i, row in enumerate(tau)})


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunk", [1, 8, 17, 1000, None])
def test_walk_visits_every_weight_once(threads, chunk):
    tau = np.random.default_rng(0).standard_normal((4, 101)).astype(np.float32)
    seen = np.zeros((4, 101), np.float32)

    def visit(ops, lo, hi, block):
        assert lo % 8 == 0
        assert block.flags.c_contiguous
        seen[:, lo:hi] += block
        return lo

    starts = walk(as_vectors(tau), visit, threads=threads, chunk=chunk)
    np.testing.assert_array_equal(seen, tau)
    assert starts == sorted(starts)


def test_walk_errors():
    vectors = as_vectors(np.full((2, 50), np.nan, np.float32))
    for threads in (1, 2):
        with pytest.raises(TallyError, match="NaN or infinity in tensor 'b' of <t00>"):
            walk(vectors, lambda *_: None, threads=threads, chunk=8)
    with pytest.raises(TallyError, match="threads is 0"):
        walk(vectors, lambda *_: None, threads=0)


def test_the_backend_grows_with_the_work(monkeypatch):
    assert streaming.backend(10).__name__ == "tally.blocks"
    assert streaming.backend(10**9).__name__ == "tally.kernels"
    monkeypatch.setitem(__import__("sys").modules, "tally.kernels", None)
    monkeypatch.delattr("tally.kernels", raising=False)
    assert streaming.backend(10**9).__name__ == "tally.blocks"


def test_no_such_device():
    with pytest.raises(TallyError, match="cuda:99"):
        walk(as_vectors(np.ones((1, 9), np.float32)), lambda *_: None, device="cuda:99")


magnitudes = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, 2.0])
)


@settings(max_examples=60, deadline=None)
@given(
    tau=hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(4, 40)), elements=magnitudes), data=st.data()
)
def test_kth_magnitude_is_the_sorted_one(tau, data):
    tasks, size = tau.shape
    ranks = data.draw(st.lists(st.integers(0, size + 1), min_size=tasks, max_size=tasks))
    found = kth_magnitudes(as_vectors(tau), ranks, chunk=8)
    padded = np.pad(np.sort(np.abs(tau), axis=1), ((0, 0), (1, 1)), constant_values=((0, 0), (0, np.inf)))
    np.testing.assert_array_equal(found, padded[np.arange(tasks), ranks])
    assert found.dtype == np.float32


@pytest.mark.parametrize("threads", [1, 2])
def test_kth_magnitude_of_heavy_tails(threads, monkeypatch):
    tau = np.random.default_rng(1).standard_t(2, (3, 20_003)).astype(np.float32)
    ranks = [rank(20_003, keep) for keep in (0.2, 0.1, 1 / 3)]
    expected = [np.partition(np.abs(row), r - 1)[r - 1] for row, r in zip(tau, ranks)]
    for numba_from in (0, 10**12):
        monkeypatch.setattr(streaming, "NUMBA_FROM", numba_from)
        np.testing.assert_array_equal(kth_magnitudes(as_vectors(tau), ranks, chunk=4096, threads=threads), expected)


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 100), st.integers(0, 100))
def test_rank_is_the_authors_with_frozen_zeros(size, percent, frozen):
    keep = percent / 100
    values = np.random.default_rng(size).permutation(np.arange(1, size + 1))
    whole = np.sort(np.concatenate([values, np.zeros(frozen, int)]))
    k = len(whole) - int(len(whole) * keep)
    threshold = whole[k - 1] if k else 0  # kthvalue(k) is 1-based and cannot take 0
    mine = rank(size, keep, frozen)
    assert (np.sort(values)[mine - 1] if mine >= 1 else 0) == threshold


def test_rank_limits():
    for keep in (-0.1, 1.1, 20):
        with pytest.raises(TallyError, match="keep is"):
            rank(10, keep)
    with pytest.raises(TallyError, match="frozen is -1"):
        rank(10, 0.2, -1)
