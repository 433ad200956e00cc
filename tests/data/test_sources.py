"""Loaders of real data: agreement with torchvision, and bad files."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tally.data import sources
from tally.errors import TallyError

RNG = np.random.default_rng(0)


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def family(tmp_path):
    """A little MNIST, half of it packed. -> resources, images and labels of the training split"""
    images, labels = RNG.integers(0, 256, (7, 28, 28), np.uint8), np.arange(7, dtype=np.uint8)
    raw = tmp_path / "data/MNIST/raw"
    for stem, ending in (("train", ""), ("t10k", ".gz")):
        write_idx(raw / f"{stem}-images-idx3-ubyte{ending}", images)
        write_idx(raw / f"{stem}-labels-idx1-ubyte{ending}", labels)
    return tmp_path, images, labels


def test_idx_reads_plain_and_packed_alike(family):
    resources, images, labels = family
    splits = sources.idx("data/MNIST/raw", resources, 28, 0)
    for split in ("train", "test"):
        assert (splits[split][0] == images[:, None]).all()
        assert (splits[split][1] == labels).all()


def test_idx_agrees_with_torchvision(family):
    pytest.importorskip("torchvision")
    from torchvision.datasets.mnist import read_image_file

    resources, *_ = family
    path = resources / "data/MNIST/raw/train-images-idx3-ubyte"
    assert (read_image_file(str(path)).numpy() == sources.read_idx(path, 3)).all()


@pytest.mark.parametrize("harm", ["missing", "cut", "packed cut", "not idx", "labels"])
def test_bad_idx_files_are_named(family, harm):
    resources, _, labels = family
    raw = resources / "data/MNIST/raw"
    plain, packed = raw / "train-images-idx3-ubyte", raw / "t10k-images-idx3-ubyte.gz"
    if harm == "missing":
        plain.unlink()
    elif harm == "cut":
        plain.write_bytes(plain.read_bytes()[:-1])
    elif harm == "packed cut":
        packed.write_bytes(packed.read_bytes()[:-20])
    elif harm == "not idx":
        plain.write_bytes(b"<html>")
    else:
        write_idx(raw / "train-labels-idx1-ubyte", labels[:3])
    name = {"packed cut": packed.name, "labels": "7 train images but 3 labels"}.get(harm, plain.name)
    with pytest.raises(TallyError, match=name) as error:
        sources.idx("data/MNIST/raw", resources, 28, 0)
    assert "\n" not in str(error.value)


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "test"):
        for i, name in enumerate(("dog", "cat")):
            for k in range(2):
                save(tmp_path / "pets" / split / name / f"{k}.png", Image.new("RGB", (20, 14), (100 * i, 50 * k, 7)))
    return tmp_path


def load(resources):
    return sources.folders("pets", ("dog", "cat"), resources, 10, 0)


def test_folders_keep_the_order_of_the_names(pets):
    splits = load(pets)
    assert set(splits) == {"train", "test"}
    images, labels = splits["test"]
    assert labels.tolist() == [0, 0, 1, 1]  # dogs first, not sorted
    assert images[:, :, 5, 5].tolist() == [[0, 0, 7], [0, 50, 7], [100, 0, 7], [100, 50, 7]]
    save(pets / "pets/val/dog/a.png", Image.new("L", (9, 9)))
    save(pets / "pets/val/cat/a.png", Image.new("P", (9, 9)))
    assert load(pets)["val"][0].shape == (2, 3, 10, 10)


@pytest.mark.parametrize("harm", ["truncated", "text", "mode", "empty", "stranger"])
def test_bad_folders_are_named(pets, harm):
    victim = pets / "pets/train/cat/0.png"
    if harm == "truncated":
        save(victim, Image.fromarray(RNG.integers(0, 256, (60, 60, 3), np.uint8)))
        victim.write_bytes(victim.read_bytes()[:2000])
    elif harm == "text":
        victim.write_text("not a picture")
    elif harm == "mode":
        save(victim, Image.fromarray(RNG.integers(0, 60000, (9, 9)).astype(np.uint16)))
    elif harm == "empty":
        for path in victim.parent.iterdir():
            path.unlink()
        victim = victim.parent
    else:
        victim = save(pets / "pets/train/mouse/0.png", Image.new("RGB", (9, 9))).parent
    with pytest.raises(TallyError) as error:
        load(pets)
    assert str(error.value).startswith(f"{victim}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [(28, 28), (33, 50), (50, 33), (30, 30), (41, 30), (301, 77)])
def test_fit_agrees_with_torchvision(size):
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), np.uint8))
    theirs = transforms.Compose(
        [transforms.Resize(30, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(30)]
    )(image)
    assert (sources.fit(image, 30) == np.asarray(theirs).transpose(2, 0, 1)).all()
