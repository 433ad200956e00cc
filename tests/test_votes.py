import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally.errors import TallyError
from tally.masks import pack
from tally.merging import merge
from tally.vectors import open_vectors
from tally.votes import CHUNK, chance_profile, counts, profile, shares, votes


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 70))))
def test_votes_and_profile_are_the_dense_ones(mask):
    counted = votes(pack(mask), mask.shape[1])
    np.testing.assert_array_equal(counted, mask.sum(axis=0))
    assert counted.dtype == np.uint8
    agreement = profile(counted, len(mask))
    assert agreement == [(mask.sum(axis=0) == n).mean() for n in range(len(mask) + 1)]
    assert sum(agreement) == pytest.approx(1)
    named = shares(agreement)
    assert named["catastrophic"] == agreement[0]
    assert sum(named.values()) == pytest.approx(1)


def test_votes_over_several_chunks_and_from_a_mapping():
    mask = np.random.default_rng(0).random((3, 2 * CHUNK + 77)) < 0.3
    out = np.empty(mask.shape[1], np.uint8)
    assert votes(dict(zip("abc", pack(mask))), mask.shape[1], out) is out
    np.testing.assert_array_equal(out, mask.sum(axis=0))


def test_bad_votes():
    with pytest.raises(TallyError, match="a mask of 20 weights is 3 bytes, not 2"):
        votes([np.zeros(2, np.uint8)], 20)
    with pytest.raises(TallyError, match="at most 255"):
        votes(np.zeros((256, 1), np.uint8), 8)
    with pytest.raises(TallyError, match="votes of up to 3 cannot come from 2 tasks"):
        counts(np.uint8([0, 3]), 2)


def same_places(tasks=4, size=4000):
    """Task vectors that are large at the same weights: they agree far more than chance."""
    random = np.random.default_rng(0)
    scale = np.exp(2 * random.standard_normal(size))
    rows = (random.standard_normal((tasks, size)) * scale).astype(np.float32)
    return open_vectors({f"t{i}": {"a": row[:1000], "b": row[1000:].reshape(50, -1)} for i, row in enumerate(rows)})


@pytest.mark.parametrize("method", ["task-arithmetic", "ties"])
def test_chance_is_the_profile_of_permuted_vectors(method):
    vectors = same_places()
    chance = chance_profile(vectors, 0.4, method, seed=3)
    assert sum(chance) == pytest.approx(1)
    assert chance == chance_profile(vectors, 0.4, method, seed=3, threads=2, chunk=64)
    assert chance != chance_profile(vectors, 0.4, method, seed=4)
    measured = profile(merge(vectors, "ties-sum" if method == "ties" else method, lambdas=0.4).votes, 4)
    assert np.abs(np.array(chance) - measured).max() > 0.02  # the permutation did break something


def test_independent_vectors_are_at_chance():
    rows = np.random.default_rng(0).standard_normal((5, 20_000)).astype(np.float32)
    vectors = open_vectors({f"t{i}": {"w": row} for i, row in enumerate(rows)})
    measured = profile(merge(vectors, lambdas=0.4).votes, 5)
    np.testing.assert_allclose(chance_profile(vectors, 0.4), measured, atol=0.01)


def test_chance_does_not_depend_on_the_other_tasks_names():
    rows = np.random.default_rng(0).standard_normal((2, 500)).astype(np.float32)
    there = open_vectors({"a": {"w": rows[0]}, "b": {"w": rows[1]}})
    back = open_vectors({"b": {"w": rows[1]}, "a": {"w": rows[0]}})
    assert chance_profile(there, {"a": 0.3, "b": 0.5}) == chance_profile(back, {"b": 0.5, "a": 0.3})
