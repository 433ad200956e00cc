import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tally.data.similar import ALIKE, originals, vectorized

TEXTS = st.lists(
    st.lists(st.sampled_from(["red", "green", "blue", "cat", "dog", "runs"]), max_size=5).map(" ".join), max_size=10
)


@settings(max_examples=25)
@given(TEXTS)
def test_no_two_that_are_kept_are_alike_and_each_dropped_has_one_that_is(texts):
    kept = originals(texts)
    rows = [i for i, text in enumerate(texts) if text.strip()]
    assert not kept[[i for i in range(len(texts)) if i not in rows]].any()
    if not rows:
        return
    unique = sorted({texts[i]: i for i in reversed(rows)}.values())  # first of each
    dense = vectorized([texts[i] for i in unique]).toarray()
    cosine = dict(zip(unique, dense @ dense.T))
    expected = np.zeros(len(texts), dtype=bool)
    for i in unique:
        expected[i] = not any(cosine[i][unique.index(j)] >= ALIKE for j in unique if j < i and expected[j])
    np.testing.assert_array_equal(kept, expected)


def test_words_that_all_texts_hold_tell_none_apart():
    assert originals(["the cat"] * 2 + [f"the cat {i}" for i in range(20)]).sum() == 21
    assert originals([" ".join(["the"] * n) for n in range(1, 15)]).all()


def test_case_and_a_word_more_are_near_and_another_word_is_not():
    texts = [
        "The specified resource does not exist in this region", "the specified resource does NOT exist in this region",
        "The specified resource does not exist in this region.", "Creates a bucket", "", "...",
        "Returns a list of all the certificates that were issued",
    ]  # fmt: skip
    assert originals(texts).tolist() == [True, False, False, True, False, False, True]
