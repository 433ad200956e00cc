from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally.errors import TallyError
from tally.masks import at, count, pack, tall, unpack
from tally.merging import merge
from tally.vectors import open_vectors

GRID = [0.2, 0.3, 0.4, 0.5, 0.6]
weights = hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.floats(-4, 4, width=32))


def as_vectors(tau):
    return open_vectors({f"t{i:02}": {"w": row} for i, row in enumerate(tau)})


def dense(tau, merged, scale, strict=False):
    near, far = np.abs(tau), np.abs(merged - tau)
    return near > np.float32(scale) * far if strict else near >= np.float32(scale) * far


@settings(deadline=None)
@given(weights, st.booleans())
def test_levels_are_the_dense_masks_nested(tau, strict):
    merged = tau.sum(axis=0)
    levels = tall(as_vectors(tau), merged, GRID, strict=strict, chunk=8)
    for scale in GRID:
        np.testing.assert_array_equal(at(levels, GRID, scale), dense(tau, merged, scale, strict))
    for small, large in pairwise(GRID):
        assert (at(levels, GRID, large) <= at(levels, GRID, small)).all()


@settings(deadline=None)
@given(weights, st.data())
def test_packed_masks_have_a_lambda_each(tau, data):
    vectors = as_vectors(tau)
    merged = tau.sum(axis=0)
    chosen = {task: data.draw(st.sampled_from(GRID)) for task in vectors.tasks}
    packed = tall(vectors, merged, chosen, chunk=16)
    for row, vector, task in zip(packed, tau, vectors.tasks):
        expected = dense(vector, merged, chosen[task])
        np.testing.assert_array_equal(unpack(row, tau.shape[1]), expected)
        assert count(row) == expected.sum()
    np.testing.assert_array_equal(tall(vectors, merged, 0.4), pack(dense(tau, merged, 0.4)))


def test_one_task_keeps_everything():
    tau = np.float32([[1, 0, -2, 3]])
    merged = merge(as_vectors(tau), lambdas=GRID)
    np.testing.assert_array_equal(merged.vector, tau[0])
    assert (merged.levels == len(GRID)).all()


def test_merging_makes_the_same_masks_in_its_pass():
    tau = np.random.default_rng(0).standard_normal((5, 1001)).astype(np.float32)
    vectors = as_vectors(tau)
    for name in ("task-arithmetic", "ties-sum"):
        merged = merge(vectors, name, lambdas=GRID, chunk=64)
        np.testing.assert_array_equal(merged.levels, tall(vectors, merged.vector, GRID))
        packed = merge(vectors, name, lambdas=0.3, chunk=64)
        np.testing.assert_array_equal(packed.masks, pack(at(merged.levels, GRID, 0.3)))


def test_into_given_arrays():
    tau = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    out = [np.zeros(13, np.uint8) for _ in tau]
    assert tall(as_vectors(tau), tau.sum(axis=0), 0.4, out=out) is out
    np.testing.assert_array_equal(out, pack(dense(tau, tau.sum(axis=0), 0.4)))


@settings(deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 3), st.integers(1, 70))))
def test_pack_and_back(mask):
    packed = pack(mask)
    np.testing.assert_array_equal(unpack(packed, mask.shape[1]), mask)
    assert count(packed) == mask.sum()


def test_bad_lambdas_and_masks():
    vectors = as_vectors(np.ones((2, 4), np.float32))
    merged = np.ones(4, np.float32)
    for bad in (-1, np.nan, [], [0.1, -0.2], {"t00": 0.1, "t01": np.inf}):
        with pytest.raises(TallyError, match="lambda must be"):
            tall(vectors, merged, bad)
    with pytest.raises(TallyError, match="ascend"):
        tall(vectors, merged, [0.2, 0.2])
    with pytest.raises(TallyError, match="no lambda for the task 't01'"):
        tall(vectors, merged, {"t00": 0.1})
    with pytest.raises(TallyError, match="not in the grid"):
        at(np.zeros(3), GRID, 0.7)
    with pytest.raises(TallyError, match="a mask of 9 weights is 2 bytes"):
        unpack(np.zeros(1, np.uint8), 9)
