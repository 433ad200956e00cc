"""Validation splits and their disjointness."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tally.data.splits import disjoint, random_rows, with_validation


def test_the_split_of_mnist_is_the_authors():
    train, val = random_rows(60_000, 0.1)
    assert train[0] == 36044  # the authors' own check of their split
    assert (len(train), len(val)) == (55_000, 5_000)  # at most 5000


def test_rows_are_split_without_remainder():
    train, val = random_rows(37, 0.1)
    assert len(val) == 3
    assert sorted([*train, *val]) == list(range(37))


def test_validation_of_the_data_set_is_kept():
    part = (np.zeros((2, 3, 1, 1), np.uint8), np.array([0, 1]))
    splits = {"train": part, "val": part, "test": part}
    assert with_validation(splits, 0.5) is splits


def test_validation_is_held_out_with_its_labels():
    images = np.arange(20 * 3, dtype=np.uint8).reshape(20, 3, 1, 1)
    splits = with_validation(
        {"train": (images, images[:, 0, 0, 0].astype(np.int64)), "test": (images[:0], np.zeros(0, np.int64))}, 0.25
    )
    assert [len(splits[split][1]) for split in ("train", "val", "test")] == [15, 5, 0]
    for part, labels in splits.values():
        assert (part[:, 0, 0, 0] == labels).all()


def reference(splits):
    """The rule of `disjoint` on tuples, picture by picture."""
    gone, out = set(), {}
    for split in ("test", "val", "train"):
        rows = [(tuple(image.ravel().tolist()), label) for image, label in zip(*splits[split])]
        out[split] = [row for row in rows if row[0] not in gone]
        gone |= {row[0] for row in rows}
    return out


tiny = npst.arrays(
    np.uint8, st.tuples(st.integers(0, 12), st.just(3), st.just(1), st.just(1)), elements=st.integers(0, 1)
)


@settings(max_examples=60, deadline=None)
@given(train=tiny, val=tiny, test=tiny)
def test_disjoint_equals_the_reference_and_is_idempotent(train, val, test):
    splits = {
        name: (images, np.arange(len(images))) for name, images in (("train", train), ("val", val), ("test", test))
    }
    got = disjoint(splits)
    for split, rows in reference(splits).items():
        assert [(tuple(image.ravel().tolist()), label) for image, label in zip(*got[split])] == rows
    assert (got["test"][0] == test).all()
    for split, (images, _) in disjoint(got).items():
        assert (images == got[split][0]).all()
