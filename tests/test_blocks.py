import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import blocks


def test_float32_of_bfloat16():
    values = np.float32([1.5, -2, 0, -0.0, 3e38])
    found = blocks.float32((values.view(np.uint32) >> 16).astype(np.uint16))
    np.testing.assert_array_equal(found.view(np.uint32), values.view(np.uint32) & 0xFFFF0000)


def test_total_adds_in_order():
    tau = np.float32([[1e8], [1], [-1e8], [1], [1], [1], [1], [1], [1]])
    out = np.empty(1, np.float32)
    blocks.total(tau, out)
    assert out[0] == 6  # 1e8 + 1 is 1e8 in float32; pairs would give another sum


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50), st.data())
def test_histograms_count_magnitudes(values, data):
    bits = np.float32(values).view(np.uint32)
    high = np.zeros(1 << 15, np.int64)
    blocks.histogram(bits, high)
    assert high.sum() == len(values)
    chosen = data.draw(st.sampled_from(values))
    place = int(np.abs(np.float32(chosen)).view(np.uint32))
    low = np.zeros(1 << 16, np.int64)
    blocks.low_histogram(bits, place >> 16, low)
    assert low.sum() == high[place >> 16]
    assert low[place & 0xFFFF] == np.count_nonzero(np.abs(np.float32(values)) == np.abs(np.float32(chosen)))
