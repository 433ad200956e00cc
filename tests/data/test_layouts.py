"""Every published data set in its own on-disk format, in miniature, from its files to a prepared cache and a training step."""

from pathlib import Path

import pytest
import torch
from miniatures import PER_CLASS, WRITERS, md5, miniature, seen, write
from tally.checkpoints import open_checkpoint
from tally.data.cache import cache, manifest
from tally.data.layouts import read
from tally.data.published import open_published
from tally.errors import TallyError
from tally.evaluate import load_split
from tally.finetune import finetune
from torchvision.datasets import CIFAR10, ImageFolder


@pytest.mark.parametrize("name", WRITERS)
def test_from_the_files_to_a_training_step(name, tmp_path, monkeypatch, tiny_model, tiny_weights):
    row = miniature(tmp_path, name, monkeypatch.setattr)
    form, parts = open_published(row, tmp_path)
    assert form == "layout"
    if name != "EuroSAT":
        assert len(parts["test"]) == PER_CLASS["test"] * len(row.classes)
    output = tmp_path / "out" / f"{name}.safetensors"
    shared = cache(row, 12, data=tmp_path, output=output)
    assert (shared["train test"] + shared["val test"] > 0) == row.source.leaky
    assert shared["train val"] == 0
    file = open_checkpoint(output)
    for split, n in row.source.sizes._asdict().items():
        images, labels = file[f"{split}.inputs"], file[f"{split}.labels"]
        assert images.shape == (n, 3, 12, 12)
        assert [seen(image) for image in images] == labels.tolist()  # every picture has kept its label
    manifest(output, tmp_path / "m.tsv")
    lines = (tmp_path / "m.tsv").read_text().splitlines()[1:]
    assert len(lines) == sum(row.source.sizes)
    assert row.source.leaky or len({line.split("\t")[2] for line in lines}) == len(lines)

    head = torch.nn.functional.normalize(
        torch.randn(len(row.classes), 16, generator=torch.Generator().manual_seed(0)), dim=1
    )
    base = {key: w for key, w in tiny_weights.items() if key.startswith(tiny_model.domain)}
    tuned = finetune(
        base, tiny_model, head, load_split(output, "train"), steps=1, batch=4, lr=1e-3, warmup=0, weight_decay=0.1,
        clip_norm=1.0, seed=0,
    )  # fmt: skip
    assert any((tuned[key] != base[key]).any() for key in base)


def test_eurosat_is_split_within_its_classes(tmp_path, monkeypatch):
    row = miniature(tmp_path, "EuroSAT", monkeypatch.setattr)
    parts = read(row.source, tmp_path)
    assert {split: sorted(label for _, label in (part[i] for i in range(len(part)))) for split, part in parts.items()} == {
        "train": [0] * 8 + [1] * 8 + [2] * 8, "val": [0, 1, 2], "test": [0, 1, 2]
    }  # fmt: skip


@pytest.mark.parametrize("name", ["DTD", "DTD-leaky", "RESISC45", "SUN397"])
def test_rows_are_in_the_order_of_the_authors_image_folders(name, tmp_path, monkeypatch):
    row = miniature(tmp_path, name, monkeypatch.setattr)
    for split, part in read(row.source, tmp_path).items():
        for path, label in zip(part.paths, part.labels):
            link = tmp_path / "copied" / split / row.source.folders[label] / path.name  # as the authors' script copies
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        theirs = ImageFolder(str(tmp_path / "copied" / split))
        assert [(str(path.name), label) for path, label in zip(part.paths, part.labels)] == [
            (Path(path).name, label) for path, label in theirs.samples
        ]


def test_a_pickle_of_cifar_is_not_run(tmp_path, monkeypatch):
    import pickle

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    row = miniature(tmp_path, "CIFAR10", monkeypatch.setattr)
    path = write(tmp_path / "cifar-10-batches-py" / "test_batch", pickle.dumps({"data": Evil(), "labels": [0]}))
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5(path)]])
    with pytest.raises(TallyError, match=r"cifar-10-batches-py: not whole.*io\.open"):
        read(row.source, tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("MNIST", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("Cars", "stanford_cars/cars_test_annos_withlabels.mat"),
        ("SUN397", "SUN397/Partitions/Testing_01.txt"),
        ("CIFAR100", "cifar-100-python/test"),
        ("FER2013", "fer2013/fer2013.csv"),
    ],
)
def test_what_is_not_whole_is_one_line(name, gone, tmp_path, monkeypatch):
    row = miniature(tmp_path, name, monkeypatch.setattr)
    (tmp_path / gone).unlink()
    with pytest.raises(TallyError, match=f"{row.source.place}: not whole") as error:
        open_published(row, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("CIFAR10", "cifar-10-batches-py/data_batch_3"),
        ("CIFAR100", "cifar-100-python/test"),
        ("Cars", "stanford_cars/cars_test_annos_withlabels.mat"),
        ("RESISC45", "resisc45/resisc45-train.txt"),
    ],
)
def test_a_file_that_is_not_the_makers_is_named(name, changed, tmp_path, monkeypatch):
    row, path = miniature(tmp_path, name, monkeypatch.setattr), tmp_path / changed
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(TallyError, match=f"{changed}: not its makers' file, its md5 differs; fetch it again") as error:
        read(row.source, tmp_path)
    assert "\n" not in str(error.value)


def test_half_a_file_is_not_whole(tmp_path, monkeypatch):
    row = miniature(tmp_path, "SVHN", monkeypatch.setattr)
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TallyError, match=r"train_32x32.mat: not whole"):
        open_published(row, tmp_path)
