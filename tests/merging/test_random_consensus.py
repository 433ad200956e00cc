import numpy as np
from tally.merging import consensus, random_consensus
from tally.vectors import open_vectors


def setting():
    random = np.random.default_rng(0)
    vectors = open_vectors(
        {"a": {"b": np.ones(30, np.float32), "e": np.ones(0, np.float32), "w": np.ones((40, 5), np.float32)}}
    )
    merged = random.standard_normal(230).astype(np.float32)
    votes = random.integers(0, 5, 230).astype(np.uint8)
    votes[:30] = 4
    return vectors, merged, votes


def test_every_tensor_keeps_as_many_but_others():
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


def test_seeded():
    vectors, merged, votes = setting()
    one, two, three = (random_consensus(merged, votes, 2, 4, vectors, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != three).any()
    assert (one != consensus(merged, votes, 2, 4)).any()
