import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally.errors import TallyError
from tally.merging import consensus, consensus_mask


@settings(deadline=None)
@given(hnp.arrays(np.uint8, 20, elements=st.integers(0, 4)), st.integers(0, 5))
def test_consensus_is_the_dense_product(votes, k):
    merged = np.linspace(-1, 1, 20).astype(np.float32)
    found = consensus(merged, votes, k, 4)
    np.testing.assert_array_equal(found, (votes >= k) * merged)
    if k == 0:
        np.testing.assert_array_equal(found, merged)
    if k == 5:
        assert not found.any()
    else:
        assert (consensus_mask(votes, k + 1, 4) <= consensus_mask(votes, k, 4)).all()


def test_bad_k_and_shapes():
    for k in (-1, 4, 1.0, None):
        with pytest.raises(TallyError, match=r"k is .*with 2 tasks"):
            consensus_mask(np.zeros(3, np.uint8), k, 2)
    with pytest.raises(TallyError, match="one suite"):
        consensus(np.zeros(3, np.float32), np.zeros(4, np.uint8), 1, 2)
