import pytest
from hypothesis import given
from hypothesis import strategies as st
from tally.errors import TallyError
from tally.ranks import Ranks


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 5))
def test_the_parts_of_all_ranks_are_the_batch(batch, world, pieces):
    if batch < world * pieces:
        with pytest.raises(TallyError, match=f"a batch of {batch} cannot be cut"):
            Ranks(0, world).parts(batch, pieces)
        return
    parts = [part for rank in range(world) for part in Ranks(rank, world).parts(batch, pieces)]
    rows = [row for part in parts for row in range(batch)[part]]
    assert rows == list(range(batch))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) - min(sizes) <= 1
