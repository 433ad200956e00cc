"""Published pictures to a prepared file: right, resumable, parallel; and everything that can be wrong with them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniatures import class_folders, picture, rows, small
from PIL import Image
from tally.checkpoints import open_checkpoint
from tally.data import decoding
from tally.data.cache import cache, overlaps
from tally.data.pictures import class_folders as read_folders
from tally.data.published import Missing, open_published
from tally.data.sources import fit
from tally.errors import TallyError

WORKFLOW = Path(__file__).parents[2] / "workflow"


@pytest.fixture
def pets(tmp_path):
    """A folder per class. -> row, folder of the data"""
    row = small("OxfordIIITPet")
    class_folders(tmp_path, row)
    return row, tmp_path


def reference(row, data, resolution):
    """Picture by picture: the files in the order of their classes, the authors' split, CLIP's preprocessing."""
    import torch
    from torch.utils.data import random_split

    def read(split):
        folders = [data / "folders" / row.name / split / name for name in row.source.folders]
        files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())]
        return [(fit(Image.open(file), resolution), label) for file, label in files]

    train, held = read("train"), len(read("train")) // 10
    parts = random_split(train, [len(train) - held, held], generator=torch.Generator().manual_seed(0))
    return {"train": list(parts[0]), "val": list(parts[1]), "test": read("test")}


@pytest.mark.parametrize("processes", [1, 2])
def test_equals_the_reference(pets, processes, monkeypatch):
    row, data = pets
    monkeypatch.setattr(decoding, "CHUNK", 7)
    cache(row, 10, data=data, output=data / "out", processes=processes)
    file = open_checkpoint(data / "out")
    for split, expected in reference(row, data, 10).items():
        assert file[f"{split}.labels"].tolist() == [label for _, label in expected]
        assert (file[f"{split}.inputs"] == np.stack([image for image, _ in expected])).all()
    assert file.metadata["source"] == "folders"


def test_a_picture_that_is_mended_is_gone_on_with(pets, monkeypatch):
    row, data = pets
    monkeypatch.setattr(decoding, "CHUNK", 4)
    monkeypatch.setattr(decoding, "MARK", 1)
    victim = data / "folders" / row.name / "train" / row.source.folders[2] / "5.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:60])
    with pytest.raises(TallyError, match=r"5\.png: cannot be read as a picture") as error:
        cache(row, 10, data=data, output=data / "out")
    assert "\n" not in str(error.value)
    assert not (data / "out").exists()
    victim.write_bytes(whole)
    opened = []
    monkeypatch.setattr("tally.data.pictures.open_picture", lambda path: opened.append(path) or Image.open(path))
    cache(row, 10, data=data, output=data / "out")
    assert 0 < len(opened) < 39 - 20  # what was decoded before the bad picture was not decoded again
    assert open_checkpoint(data / "out")["train.sha256"].any(axis=1).all()


def test_a_killed_preparation_is_gone_on_with(pets):
    row, data = pets
    program = (
        "import sys, time; from pathlib import Path; from tally.data import cache, decoding, pictures; sys.path.insert(0, sys.argv[2]);"
        "from miniatures import small; decoding.CHUNK, decoding.MARK = 2, 1; real = pictures.open_picture;"
        "pictures.open_picture = lambda path: (time.sleep(0.05), real(path))[1]; data = Path(sys.argv[1]);"
        "cache.cache(small('OxfordIIITPet'), 10, data=data, output=data / 'out', processes=2)"
    )
    environment = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(data), str(WORKFLOW.parent / "tests")], env=environment
    )
    partial = data / "out.partial"

    def marks() -> int:
        try:
            return int(open_checkpoint(partial).tensors.arrays["train.sha256"].any(axis=1).sum())
        except TallyError:  # not there yet
            return 0

    while marks() < 8:
        assert process.poll() is None
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    assert 8 <= marks() < 27
    cache(row, 10, data=data, output=data / "out")
    file = open_checkpoint(data / "out")
    for split, expected in reference(row, data, 10).items():
        assert (file[f"{split}.inputs"] == np.stack([image for image, _ in expected])).all()
    assert not partial.exists()
    over = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they end with the one that started them
        assert time.monotonic() < over
        time.sleep(0.05)


def test_absent_and_too_few(pets, tmp_path):
    row, data = pets
    with pytest.raises(
        Missing, match=r"OxfordIIITPet: not found; `make data` fetches it, or put its pictures into .*elsewhere"
    ) as error:
        open_published(row, tmp_path / "elsewhere")
    assert "\n" not in str(error.value)
    with pytest.raises(TallyError, match="has no source 'disk'; choose one of auto, layout, hub, folders"):
        open_published(row, data, "disk")
    (data / "folders" / row.name / "train" / row.source.folders[0] / "0.png").unlink()
    with pytest.raises(TallyError, match="holds 29 pictures to train instead of 30; fetch what is missing"):
        open_published(row, data)


def test_what_goes_where_by_hand(tmp_path):
    with pytest.raises(
        Missing, match=r"put into .*/resisc45/: NWPU-RESISC45\.rar \(md5 d824.*\), unpacked to .*; resisc45-train\.txt"
    ):
        open_published(small("RESISC45"), tmp_path)


def test_a_class_too_many_and_one_without_pictures(pets):
    row, data = pets
    own = data / "folders" / row.name / "train"
    (own / "Unicorn").mkdir()
    with pytest.raises(TallyError, match="Unicorn: a folder for no class of the task"):
        open_published(row, data)
    (own / "Unicorn").rmdir()
    (own / row.source.folders[1]).rename(own / ".gone")
    (own / ".gone").rename(data / "gone")
    with pytest.raises(TallyError, match="American_Bulldog: no pictures of this class"):
        open_published(row, data)


def test_labels_beyond_the_classes(pets, monkeypatch):
    row, data = pets
    with pytest.raises(TallyError, match="label 2 in train, but the task has 2 classes"):
        monkeypatch.setattr(
            "tally.data.published.class_folders", lambda root, names: read_folders(root, small(row.name).source.folders)
        )
        cache(replace(row, classes=row.classes[:2]), 10, data=data, output=data / "out")


def test_a_leak_is_refused_and_a_common_picture_told(pets, capsys):
    row, data = pets
    label, number = rows("test", 3)[0]
    folder = data / "folders" / row.name / "train" / row.source.folders[label]
    picture(folder / "0.png", label, number)
    with pytest.raises(TallyError, match="1 of 9 test pictures are in the training data too; the split is wrong"):
        cache(row, 10, data=data, output=data / "out")
    leaky = replace(row, source=replace(row.source, leaky=True))
    assert sum(cache(leaky, 10, data=data, output=data / "out").values()) == 1
    assert "OxfordIIITPet: equal pictures, kept as published: 1 in" in capsys.readouterr().err


def test_overlaps_equal_the_reference():
    rng = np.random.default_rng(0)
    digests = {
        split: rng.integers(0, 2, (n, 32)).astype(np.uint8) * np.uint8([1] * 3 + [0] * 29)
        for split, n in (("train", 9), ("val", 4), ("test", 7))
    }
    sets = {split: [bytes(row) for row in own] for split, own in digests.items()}
    expected = {
        f"{a} {b}": sum(row in sets[a] for row in sets[b])
        for a, b in (("train", "val"), ("train", "test"), ("val", "test"))
    }
    assert overlaps(digests) == expected
