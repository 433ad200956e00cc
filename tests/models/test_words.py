import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tally.errors import TallyError
from tally.models.words import SPELLING, Words

words = Words(["red", "circle", "two"], size=64)


def test_known_words_are_one_token_and_others_are_spelled():
    assert words.encode("Red circle") == [words.ids["red"], words.ids["circle"]]
    assert words.encode("rex 7") == [words.ids[c] for c in "rex7"]


def test_a_known_word_can_be_spelled():
    assert words.encode("two red", frozenset([1])) == [words.ids["two"], *(words.ids[c] for c in "red")]


def test_learn_takes_the_most_frequent_words_that_fit():
    captions = ["blue star", "blue star", "blue bar", "a bar"]
    assert Words.learn(captions, size=len(SPELLING) + 4).words == [
        "blue",
        "bar",
    ]  # bar before star: alphabetical among equals
    assert Words.learn(captions, size=64).words == ["blue", "bar", "star"]


def test_batch_pads_cuts_and_ends():
    batch = words.batch([[1, 2], [1, 2, 3, 4, 5, 6]], context=5)
    np.testing.assert_array_equal(batch, [[1, 2, 63, 0, 0], [1, 2, 3, 4, 63]])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_every_text_ends_once_and_within_the_vocabulary(texts):
    batch = words.batch([words.encode(text) for text in texts], context=12)
    assert batch.shape == (len(texts), 12)
    assert ((batch == words.end).sum(axis=1) == 1).all()
    assert batch.min() >= 0
    assert batch.max() == words.end


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read as JSON"), ('{"a": 1}', "a list of words"), (json.dumps(["word"] * 2), None), ("[1]", "a list of words"),
     (json.dumps([f"w{i}" for i in range(99)]), "do not fit")],
)  # fmt: skip
def test_a_damaged_list_of_words_is_one_clear_line(tmp_path, text, said):
    (tmp_path / "words.json").write_text(text)
    if said is None:
        assert Words.load(tmp_path / "words.json", 99).words == ["word", "word"]
        return
    with pytest.raises(TallyError, match=said):
        Words.load(tmp_path / "words.json", 99)
