"""Generated tasks: the same everywhere, balanced, no font in two splits."""

import hashlib
import random
import subprocess
import sys

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from tally.data import draw, generated, scripts
from tally.data.task import Task
from tally.data.tasks import TASKS

DRAWN = [name for name, row in TASKS.items() if isinstance(row, Task) and row.origin == "generated from a seed"]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(generated, "SIZES", {"train": 40, "val": 20, "test": 40})


def load(name, resolution=30, seed=0):
    return TASKS[name].source(None, resolution, seed)


@pytest.mark.parametrize("name", DRAWN)
def test_seeded_balanced_and_of_any_size(few, name):
    classes = len(TASKS[name].classes)
    splits = load(name)
    for split, n in generated.SIZES.items():
        images, labels = splits[split]
        assert images.shape == (n, 3, 30, 30)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        counts = np.bincount(labels, minlength=classes)
        assert len(counts) == classes
        assert np.ptp(counts) <= 1
        assert images.std(axis=(1, 2, 3)).min() > 1  # no empty picture
    again, other = load(name), load(name, seed=1)
    assert (again["test"][0] == splits["test"][0]).all()
    assert (other["test"][0] != splits["test"][0]).any()
    assert load(name, 17)["val"][0].shape == (20, 3, 17, 17)


def test_streams_do_not_depend_on_the_process():
    draws = [
        generated.stream(*key).random()
        for key in (("letters", "train", 0), ("letters", "val", 0), ("count", "train", 0), ("letters", "train", 1))
    ]
    assert len(set(draws)) == 4
    digest = hashlib.sha256(b"letters/train/0").digest()
    assert draws[0] == random.Random(int.from_bytes(digest[:8], "big")).random()


@pytest.mark.parametrize("script", scripts.FONTS)
def test_no_font_is_in_train_and_test_and_each_has_every_character(script):
    train, test = scripts.FONTS[script]
    assert not set(train) & set(test)
    text = {
        "latin": scripts.LATIN,
        "cyrillic": scripts.CYRILLIC,
        "armenian": scripts.ARMENIAN,
        "sans": scripts.HEBREW + scripts.SYMBOLS,
    }[script]
    for font in (*train, *test):
        with TTFont(draw.font_folder() / f"{font}.ttf") as face:
            assert set(map(ord, text)) <= set(face.getBestCmap()), font


def test_braille_cells_are_the_letters_of_unicode():
    import unicodedata

    for _letter, dots in zip(scripts.LATIN, scripts.BRAILLE, strict=True):
        cell = chr(0x2800 + sum(1 << int(dot) - 1 for dot in dots))
        assert unicodedata.name(cell) == f"BRAILLE PATTERN DOTS-{dots}"
    assert scripts.BRAILLE[0] == "1"
    assert scripts.BRAILLE[-1] == "1356"
    assert len(set(scripts.BRAILLE)) == 26


def test_drawing_does_not_import_torch():
    program = (
        "import sys; from tally.data import generated; from tally.data.prepare import prepare; from tally.data.tasks import TASKS;"
        "generated.SIZES.update(train=30, val=30, test=30); prepare(TASKS['count'], 12, resources='.');"
        "assert not {'torch', 'torchvision', 'sklearn', 'snakemake'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
