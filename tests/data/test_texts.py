"""Texts from a source to token ids."""

from functools import partial

import numpy as np
import pytest
from tally.data.similar import ALIKE, originals, vectorized
from tally.data.text_task import TextTask
from tally.data.texts import prepare, split_up
from tally.errors import TallyError
from tally.models.tokens import Tokenizer

pytest.importorskip("tokenizers")

from tiny_bert import ANIMALS, TEXTS, write_folder

SENTENCES = {animal: f"a {animal}" for animal in ANIMALS}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer(write_folder(tmp_path_factory.mktemp("tiny-bert")))


def source(labels, resources):
    return {"all": (TEXTS, [next(label for label in labels if label in text) for text in TEXTS])}


def row(sentences=SENTENCES, labels=ANIMALS):
    return TextTask("pets", "pets", sentences, partial(source, labels), "none", "the test")


def test_prepared_data_are_ids_in_order_of_length(tokenizer, tmp_path):
    arrays = prepare(row(), tokenizer, 8, resources=tmp_path)
    assert set(arrays) == {f"{s}.{part}" for s in ("train", "val", "test") for part in ("inputs", "labels")}
    for split in ("train", "val", "test"):
        ids, labels = arrays[f"{split}.inputs"], arrays[f"{split}.labels"]
        assert (ids.dtype, labels.dtype, ids.shape) == ("int32", "int64", (len(labels), 8))
        for text, label in zip(ids, labels):
            assert 6 + label in text  # the animal's own word
        if split != "train":
            assert (np.diff((ids != 0).sum(axis=1)) >= 0).all()


def test_splits_hold_nothing_alike():
    splits = split_up(source(ANIMALS, None))
    assert {split: len(own) for split, (own, _) in splits.items()} == {"train": 73, "val": 8, "test": 27}
    texts = [text for own, _ in splits.values() for text in own]
    cosine = (vectorized(texts) @ vectorized(texts).T).toarray()
    np.fill_diagonal(cosine, 0)
    assert cosine.max() < ALIKE
    assert originals(texts).all()


def test_published_test_data_stay_and_the_training_data_lose_what_is_like_them():
    train = (["a red cat sleeps in the house", "a blue fish swims to the sea"], ["cat", "fish"])
    test = (["A red cat sleeps in the house!"], ["cat"])
    splits = split_up({"train": train, "test": test})
    assert splits["test"] == test
    assert splits["train"] == (["a blue fish swims to the sea"], ["fish"])


def test_a_label_without_a_sentence_is_named(tokenizer, tmp_path):
    with pytest.raises(TallyError, match="pets: label 'fish' in .* has no sentence; .* beside cat, dog"):
        prepare(row({"cat": "a cat", "dog": "a dog"}), tokenizer, 6, resources=tmp_path)


def test_a_class_without_texts_is_named(tokenizer, tmp_path):
    with pytest.raises(TallyError, match="pets: no text of class 'bird' in train"):
        prepare(row(SENTENCES | {"bird": "a bird"}), tokenizer, 6, resources=tmp_path)


def test_what_is_cut_is_told_and_can_be_refused(tokenizer, tmp_path, capsys):
    prepare(row(), tokenizer, 5, resources=tmp_path)
    assert "texts cut to 5 tokens" in capsys.readouterr().err
    with pytest.raises(TallyError, match="longer than the context of 5 tokens"):
        prepare(row(), tokenizer, 5, cut=False, resources=tmp_path)
