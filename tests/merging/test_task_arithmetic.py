import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally.merging import merge
from tally.vectors import open_vectors


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 30)), elements=st.floats(-1e6, 1e6, width=32))
)
def test_it_is_the_sum_in_task_order(tau):
    expected = tau[0].copy()
    for row in tau[1:]:
        expected = expected + row
    merged = merge(open_vectors({f"t{i:02}": {"w": row} for i, row in enumerate(tau)}), chunk=8)
    np.testing.assert_array_equal(merged.vector, expected)
    assert merged.vector.dtype == np.float32
