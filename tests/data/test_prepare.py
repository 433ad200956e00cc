"""Every task of the table, prepared as the workflow does, at a low resolution to be quick."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tally.data import generated
from tally.data.prepare import prepare
from tally.data.tasks import SUITES, TASKS
from tally.errors import TallyError

RESOURCES = Path(__file__).parents[2] / "resources"
FULL = {  # not reduced: what is not drawn, and one drawn task
    "mnist": (3600, 400, 1000), "digits": (1000, 200, 597), "fashion": (3600, 400, 1000), "emoji": (1214, 134, 440),
    "dice": (3600, 400, 1000),
}  # fmt: skip


def digests(images):
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in images}


@pytest.mark.parametrize("name", SUITES["mini-20"])
def test_splits_are_disjoint_and_complete(name, monkeypatch):
    if name not in FULL:
        monkeypatch.setattr(generated, "SIZES", {"train": 300, "val": 50, "test": 100})
    arrays = prepare(TASKS[name], 30, resources=RESOURCES)
    seen = set()
    for split in ("train", "val", "test"):
        images, labels = arrays[f"{split}.inputs"], arrays[f"{split}.labels"]
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), 3, 30, 30)
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        assert labels.min() >= 0
        assert labels.max() < len(TASKS[name].classes)
        own = digests(images)
        assert not seen & own
        seen |= own
    if name in FULL:
        assert tuple(len(arrays[f"{split}.labels"]) for split in ("train", "val", "test")) == FULL[name]


def fake(labels, *, test=(0, 1), val=(0,)):
    rng = np.random.default_rng(0)

    def part(rows):
        return rng.integers(0, 256, (len(rows), 3, 4, 4), np.uint8), np.array(rows, dtype=np.int64)

    splits = {"train": part(labels), "val": part(list(val)), "test": part(test)}
    return replace(TASKS["mnist"], name="fake", classes=("cat", "dog"), source=lambda *_: splits)


def test_no_validation_data_is_told_before_training():
    with pytest.raises(TallyError, match="fake: no picture in val; give it a folder of its own, or more to train with"):
        prepare(fake([0, 1], val=()), 4, resources=RESOURCES)


def test_a_class_without_pictures_is_named():
    with pytest.raises(TallyError, match="fake: no picture of class 'dog' in train"):
        prepare(fake([0, 0]), 4, resources=RESOURCES)
    with pytest.raises(TallyError, match="fake: no picture of class 'cat' in test"):
        prepare(fake([0, 1], test=[1]), 4, resources=RESOURCES)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_beyond_the_classes_is_named(label):
    with pytest.raises(TallyError, match=f"fake: label {label} in train, but the task has 2 classes"):
        prepare(fake([0, 1, label]), 4, resources=RESOURCES)


def test_missing_data_and_resolution_zero(tmp_path):
    with pytest.raises(TallyError, match="train-images-idx3-ubyte: no such file"):
        prepare(TASKS["mnist"], 30, resources=tmp_path)
    with pytest.raises(TallyError, match="resolution 0"):
        prepare(TASKS["mnist"], 0, resources=RESOURCES)
