"""Readers of the published layouts: torchvision's classes, and the archives that it reads otherwise than the paper.

Nothing is downloaded here but by `download`, and no pickle is run: CIFAR's batches go through `tally.pickles`.
"""

import inspect
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tally.data.pictures import Arrays, Files, Parts, Pictures
from tally.data.sources import open_picture
from tally.data.task import Published
from tally.errors import TallyError
from tally.pickles import unpickle

# torchvision's class, and what selects its parts: training and test data, if it has them
BY_SPLIT = {"split": "train"}, {"split": "test"}
BY_TRAIN = {"train": True}, {"train": False}
CLASSES: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "Cars": ("StanfordCars", BY_SPLIT),
    "GTSRB": ("GTSRB", BY_SPLIT),
    "MNIST": ("MNIST", BY_TRAIN),
    "SVHN": ("SVHN", BY_SPLIT),
    "STL10": ("STL10", BY_SPLIT),
    "OxfordIIITPet": ("OxfordIIITPet", ({"split": "trainval"}, {"split": "test"})),
    "Flowers102": ("Flowers102", BY_SPLIT),
    "PCAM": ("PCAM", BY_SPLIT),
    "FER2013": ("FER2013", BY_SPLIT),
    "Food101": ("Food101", BY_SPLIT),
    "FashionMNIST": ("FashionMNIST", BY_TRAIN),
    "RenderedSST2": ("RenderedSST2", BY_SPLIT),
    "EMNIST": ("EMNIST", ({"split": "digits", "train": True}, {"split": "digits", "train": False})),
    "KMNIST": ("KMNIST", BY_TRAIN),
    "EuroSAT": ("EuroSAT", ({},)),
    "DTD": ("DTD", ({"split": "train"}, {"split": "val"})),
}
CIFAR = {"CIFAR10": "labels", "CIFAR100": "fine_labels"}
# of files that are fetched by hand and read as they come; torchvision compares FER2013's
MD5 = {
    "Cars": {"cars_test_annos_withlabels.mat": "b0a2b23655a3edd16d84508592a98d10"},
    "RESISC45": {
        "resisc45-train.txt": "b5a4c05a37de15e4ca886696a85c403e",
        "resisc45-test.txt": "3dda9e4988b47eb1de9f07993653eb08",
    },
}


def read(source: Published, root: Path) -> Parts:
    """The parts of a data set that lies below `root` in its published layout. Raises TallyError, one line."""
    readers: dict[str, Callable[[Path, Sequence[str]], Parts]] = {
        "DTD": _dtd,
        "DTD-leaky": _dtd_leaky,
        "EuroSAT": _eurosat,
        "RESISC45": _resisc45,
        "SUN397": _sun397,
    } | {name: lambda root, folders, name=name: _cifar(name, root) for name in CIFAR}  # type: ignore[misc]
    try:
        for file, md5 in MD5.get(source.layout, {}).items():
            _genuine(root / source.place / file, md5)
        if source.layout in readers:
            return readers[source.layout](root, source.folders)
        return dict(zip(("train", "test"), _torchvision(source.layout, root)))
    except (RuntimeError, OSError, ImportError, ValueError, LookupError, pickle.UnpicklingError) as error:
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise TallyError(
            f"{root / source.place}: not whole, or not what it should be ({first}); fetch it again"
        ) from None


def _genuine(path: Path, md5: str) -> Path:
    """The path of a file, whose md5 is compared."""
    from torchvision.datasets.utils import check_md5

    if not check_md5(path, md5):
        raise TallyError(f"{path}: not its makers' file, its md5 differs; fetch it again")
    return path


def _torchvision(layout: str, root: Path, **options: Any) -> list[Pictures]:
    from torchvision import datasets

    name, selections = CLASSES[layout]
    kind = getattr(datasets, name)
    if "loader" in inspect.signature(kind).parameters:
        options["loader"] = open_picture  # which names the file that it cannot read
    return [kind(str(root), **selection, **options) for selection in selections]


def _by_folder(paths: Sequence[Path], labels: Sequence[int]) -> Files:
    """In the order of torchvision's ImageFolder, by class folder and file name: the authors' validation rows count in it."""
    rows = sorted(zip(paths, labels), key=lambda row: (row[1], row[0].name))
    return Files([path for path, _ in rows], [label for _, label in rows])


def _dtd(root: Path, folders: Sequence[str], training: Sequence[str] = ("train", "val")) -> Parts:
    """Split 1: its train and val are the training data."""
    from torchvision.datasets import DTD

    def files(splits: Sequence[str]) -> Files:
        parts = [DTD(str(root), split) for split in splits]
        return _by_folder([p for part in parts for p in part._image_files], [y for part in parts for y in part._labels])

    return {"train": files(training), "test": files(["test"])}


def _dtd_leaky(root: Path, folders: Sequence[str]) -> Parts:
    return _dtd(root, folders, ("train", "val", "test"))


def _eurosat(root: Path, folders: Sequence[str]) -> Parts:
    """A tenth of each class for the test, a tenth for validation, drawn by torch's generator seeded 0.

    The data set has no split, and the authors' depended on the order in which their disk listed the files.
    """
    import torch
    from torch.utils.data import Subset

    (whole,) = _torchvision("EuroSAT", root)
    targets, rng = np.array(whole.targets), torch.Generator().manual_seed(0)  # type: ignore[attr-defined]
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for label in range(targets.max() + 1):
        own = np.flatnonzero(targets == label)
        own, tenth = own[torch.randperm(len(own), generator=rng).numpy()], len(own) // 10
        for split, chosen in zip(rows, (own[2 * tenth :], own[tenth : 2 * tenth], own[:tenth])):
            rows[split] += sorted(chosen.tolist())
    return {split: Subset(whole, chosen) for split, chosen in rows.items()}


def _resisc45(root: Path, folders: Sequence[str]) -> Parts:
    place, labels = root / "resisc45", {name: label for label, name in enumerate(folders)}
    parts: Parts = {}
    for split in ("train", "test"):
        names = (place / f"resisc45-{split}.txt").read_text().split()  # airplane_001.jpg
        paths = [place / "NWPU-RESISC45" / name.rpartition("_")[0] / name for name in names]
        parts[split] = _by_folder(paths, [labels[path.parent.name] for path in paths])
    return parts


def _sun397(root: Path, folders: Sequence[str]) -> Parts:
    """Partition 1, lines such as /a/airfield/runway/sun_x.jpg; the authors' class folder of that is a_airfield_runway."""
    place, labels = root / "SUN397", {name: label for label, name in enumerate(folders)}
    parts: Parts = {}
    for split, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        names = [line.strip("/") for line in (place / "Partitions" / file).read_text().split()]
        parts[split] = _by_folder(
            [place / name for name in names], [labels[name.rpartition("/")[0].replace("/", "_")] for name in names]
        )
    return parts


def _cifar(name: str, root: Path) -> Parts:
    from torchvision import datasets

    kind, parts = getattr(datasets, name), {}
    for split, batches in (("train", kind.train_list), ("test", kind.test_list)):
        images, labels = [], []
        for batch, md5 in batches:
            with open(_genuine(root / kind.base_folder / batch, md5), "rb") as file:
                content = unpickle(file)
            images.append(content["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))  # type: ignore[index]
            labels += content[CIFAR[name]]  # type: ignore[index]
        parts[split] = Arrays(np.concatenate(images), labels)
    return parts


def download(layout: str, root: Path) -> None:
    """Fetch a data set from its makers into its published layout; torchvision compares the md5 of what it fetches."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    layout = layout.removesuffix("-leaky")
    root.mkdir(parents=True, exist_ok=True)
    try:
        if layout in CIFAR:
            kind = getattr(datasets, layout)
            download_and_extract_archive(kind.url, str(root), filename=kind.filename, md5=kind.tgz_md5)
        else:
            _torchvision(layout, root, download=True)
    except Exception as error:  # a server, a disk or an archive can fail in any way
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise TallyError(f"cannot be fetched from its makers ({type(error).__name__}: {first})") from None
