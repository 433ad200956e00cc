import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tally.merging import consensus, random_consensus
from tally.vectors import open_vectors

module = sys.modules["tally.merging.random_consensus"]  # the package's attribute is the function


def setting():
    random = np.random.default_rng(0)
    vectors = domain(b=(30,), e=(0,), w=(40, 5))
    merged = random.standard_normal(230).astype(np.float32)
    votes = random.integers(0, 5, 230).astype(np.uint8)
    votes[:30] = 4
    return vectors, merged, votes


def domain(**shapes):
    return open_vectors({"a": {name: np.ones(shape, np.float32) for name, shape in shapes.items()}})


@pytest.mark.parametrize(("block", "piece"), [(module.BLOCK, module.PIECE), (7, module.PIECE), (1, 50)])
def test_every_tensor_keeps_as_many_but_others(monkeypatch, block, piece):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "PIECE", piece)
    vectors, merged, votes = setting()
    for k in range(6):
        real = vectors.split(consensus(merged, votes, k, 4))
        drawn = vectors.split(random_consensus(merged, votes, k, 4, vectors, seed=1))
        for name in vectors.names:
            assert np.count_nonzero(drawn[name]) == np.count_nonzero(real[name])
            values = vectors.split(merged)[name]
            assert np.isin(drawn[name], [0, *values.ravel()]).all()
            assert ((drawn[name] == 0) | (drawn[name] == values)).all()
    assert (drawn["w"] == 0).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 4), st.integers(1, 20), st.integers(0, 99))
def test_any_tensor_keeps_as_many(votes, k, block, seed):
    votes = np.array(votes, np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        drawn = random_consensus(np.ones(votes.size, np.float32), votes, k, 3, domain(w=votes.shape), seed)
    assert np.count_nonzero(drawn) == np.count_nonzero(votes >= k)


def test_every_choice_is_as_likely(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    vectors, votes, merged = domain(w=(5,)), np.array([1, 1, 0, 0, 0], np.uint8), np.ones(5, np.float32)
    drawn = Counter(tuple(random_consensus(merged, votes, 1, 1, vectors, seed=seed)) for seed in range(3000))
    assert len(drawn) == 10
    assert all(abs(times - 300) < 5 * (300 * 0.9) ** 0.5 for times in drawn.values())


def test_seeded():
    vectors, merged, votes = setting()
    one, two, three = (random_consensus(merged, votes, 2, 4, vectors, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()
    assert (one != consensus(merged, votes, 2, 4)).any()


def test_a_tensor_is_drawn_by_itself():
    vectors, merged, votes = setting()
    whole = random_consensus(merged, votes, 2, 4, vectors, seed=1)
    np.testing.assert_array_equal(random_consensus(merged[30:], votes[30:], 2, 4, domain(w=(200,)), seed=1), whole[30:])


def test_in_place():
    vectors, merged, votes = setting()
    drawn = random_consensus(merged, votes, 2, 4, vectors)
    assert random_consensus(merged, votes, 2, 4, vectors, out=merged) is merged
    np.testing.assert_array_equal(merged, drawn)
