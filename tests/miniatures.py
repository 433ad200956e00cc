"""Miniatures of the paper's twenty data sets, each in its own on-disk format.

Every picture of class c is a noisy grey of level 40 + 80 c, so that a test sees from the pixels which label it must have.
"""

import hashlib
import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tally.data import layouts
from tally.data.task import Sizes, Task
from tally.data.tasks import TASKS

PER_CLASS = {"train": 10, "test": 3}


def grey(label: int, row: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([label, row]).integers(25 + 80 * label, 56 + 80 * label, shape).astype(np.uint8)


def seen(image: np.ndarray) -> int:
    """The label that the pixels tell."""
    return round((float(image.mean()) - 40) / 80)


def rows(split: str, classes: int, extra: int = 0) -> list[tuple[int, int]]:
    """(label, number) of each picture, classes mixed; numbers are unique over the splits."""
    start = {"train": 0, "val": 100, "test": 200}[split]
    return [(label, start + k) for k in range(PER_CLASS.get(split, 3) + extra) for label in range(classes)]


def arrays(split: str, classes: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    pairs = rows(split, classes)
    return np.stack([grey(*pair, shape) for pair in pairs]), np.array([label for label, _ in pairs])


def picture(path: Path, label: int, row: int, size: tuple[int, int] = (20, 14)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey(label, row, (*size[::-1], 3))).save(path)


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def known(patch, name: str, folder: Path) -> None:
    """The md5 that tally knows of a data set's files becomes that of the miniature's."""
    patch(layouts, "MD5", layouts.MD5 | {name: {file: md5(folder / file) for file in layouts.MD5[name]}})


def idx(root, name, classes, patch):
    for split, stem in (("train", "train"), ("test", "t10k")):
        if name == "EMNIST":
            stem = f"emnist-digits-{split}"
        images, labels = arrays(split, classes, (28, 28))
        for kind, data in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            header = bytes((0, 0, 8, data.ndim)) + np.array(data.shape, ">u4").tobytes()
            write(root / name / "raw" / f"{stem}-{kind}-ubyte", header + data.tobytes())


def svhn(root, name, classes, patch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    table = dict(SVHN.split_list)
    for split in ("train", "test"):
        images, labels = arrays(split, classes, (32, 32, 3))
        path = write(root / f"{split}_32x32.mat", b"")
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        table[split] = [*table[split][:2], md5(path)]
    patch(SVHN, "split_list", table)


def stl10(root, name, classes, patch):
    from torchvision.datasets import STL10

    folder = root / "stl10_binary"
    write(folder / "unlabeled_X.bin", b"")
    for split in ("train", "test"):
        images, labels = arrays(split, classes, (3, 96, 96))
        write(folder / f"{split}_X.bin", images.tobytes())
        write(folder / f"{split}_y.bin", (labels + 1).astype(np.uint8).tobytes())
    for table in ("train_list", "test_list"):
        patch(STL10, table, [[file, md5(folder / file)] for file, _ in getattr(STL10, table)])


def cifar(root, name, classes, patch):
    from torchvision import datasets

    kind = getattr(datasets, name)

    def batches(folder, split, names, key):
        images, labels = arrays(split, classes, (3, 32, 32))
        for file, own in zip(names, np.array_split(np.arange(len(labels)), len(names))):
            content = {"data": images[own].reshape(len(own), -1), key: labels[own].tolist(), "filenames": ["x.png"]}
            write(root / folder / file, pickle.dumps(content, protocol=2))

    if name == "CIFAR10":
        batches("cifar-10-batches-py", "train", [f"data_batch_{i}" for i in range(1, 6)], "labels")
        batches("cifar-10-batches-py", "test", ["test_batch"], "labels")
    else:
        for split in ("train", "test"):
            batches("cifar-100-python", split, [split], "fine_labels")
    for table in ("train_list", "test_list"):
        patch(kind, table, [[file, md5(root / kind.base_folder / file)] for file, _ in getattr(kind, table)])


def pcam(root, name, classes, patch):
    import h5py

    (root / "pcam").mkdir(parents=True)
    for split in ("train", "test"):
        images, labels = arrays(split, classes, (96, 96, 3))
        for key, data in (("x", images), ("y", labels[:, None, None, None])):
            with h5py.File(root / "pcam" / f"camelyonpatch_level_2_split_{split}_{key}.h5", "w") as file:
                file[key] = data


def fer2013(root, name, classes, patch):
    from torchvision.datasets import FER2013

    lines = ["emotion,pixels,Usage"]
    for split, usages in (("train", ["Training"]), ("test", ["PublicTest", "PrivateTest"])):
        for i, (label, row) in enumerate(rows(split, classes)):
            pixels = " ".join(map(str, grey(label, row, (48 * 48,))))
            lines.append(f"{label},{pixels},{usages[i % len(usages)]}")
    path = write(root / "fer2013" / "fer2013.csv", "\n".join(lines) + "\n")
    patch(FER2013, "_RESOURCES", FER2013._RESOURCES | {"fer": ("fer2013.csv", md5(path))})


def cars(root, name, classes, patch):
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(
        folder / "devkit" / "cars_meta.mat", {"class_names": np.array(TASKS["Cars"].classes[:classes], dtype=object)}
    )
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        entries = []
        for label, row in rows(split, classes):
            picture(folder / f"cars_{split}" / f"{row:03}{label}.jpg", label, row)
            entries.append((label + 1, f"{row:03}{label}.jpg"))
        kinds = [("class", object), ("fname", object)]
        savemat(folder / path, {"annotations": np.array(entries, dtype=kinds)})
    known(patch, name, folder)


def dtd(root, name, classes, patch):
    names = TASKS["DTD"].source.folders
    for split in ("train", "val", "test"):
        lines = []
        for label, row in rows(split, classes):
            lines.append(f"{names[label]}/{names[label]}_{row:04}.jpg")
            picture(root / "dtd" / "dtd" / "images" / lines[-1], label, row)
        write(root / "dtd" / "dtd" / "labels" / f"{split}1.txt", "\n".join(lines) + "\n")


def eurosat(root, name, classes, patch):
    for label, row in rows("train", classes):
        folder = TASKS["EuroSAT"].source.folders[label]
        picture(root / "eurosat" / "2750" / folder / f"{folder}_{row}.jpg", label, row, (16, 16))


def gtsrb(root, name, classes, patch):
    base, lines = root / "gtsrb", ["Filename;Width;ClassId"]
    for label, row in rows("train", classes):
        picture(base / "GTSRB" / "Training" / f"{label:05}" / f"{row:05}.ppm", label, row)
    for label, row in rows("test", classes):
        picture(base / "GTSRB" / "Final_Test" / "Images" / f"{row:04}{label}.ppm", label, row)
        lines.append(f"{row:04}{label}.ppm;20;{label}")
    write(base / "GT-final_test.csv", "\n".join(lines) + "\n")


def resisc45(root, name, classes, patch):
    for split in ("train", "test"):
        lines = []
        for label, row in rows(split, classes):
            folder = TASKS["RESISC45"].source.folders[label]
            lines.append(f"{folder}_{row:03}.jpg")
            picture(root / "resisc45" / "NWPU-RESISC45" / folder / lines[-1], label, row)
        write(root / "resisc45" / f"resisc45-{split}.txt", "\n".join(lines) + "\n")
    known(patch, name, root / "resisc45")


def sun397(root, name, classes, patch):
    nested = ["a/abbey", "a/airplane_cabin", "a/airport_terminal"]
    for split, file in (("train", "Training_01.txt"), ("test", "Testing_01.txt")):
        lines = []
        for label, row in rows(split, classes):
            lines.append(f"/{nested[label]}/sun_{row:03}.jpg")
            picture(root / "SUN397" / lines[-1][1:], label, row)
        write(root / "SUN397" / "Partitions" / file, "\n".join(lines) + "\n")


def pets(root, name, classes, patch):
    base, names = root / "oxford-iiit-pet", ["Abyssinian", "american_bulldog", "american_pit_bull_terrier"]
    for split, file in (("train", "trainval"), ("test", "test")):
        lines = []
        for label, row in rows(split, classes):
            picture(base / "images" / f"{names[label]}_{row}.jpg", label, row)
            lines.append(f"{names[label]}_{row} {label + 1} 1 1")
        write(base / "annotations" / f"{file}.txt", "\n".join(lines) + "\n")


def flowers(root, name, classes, patch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    base, ids, labels = root / "flowers-102", {"train": [], "val": [], "test": []}, []
    for split in ids:
        for label, row in rows(split, classes):
            labels.append(label + 1)
            ids[split].append(len(labels))
            picture(base / "jpg" / f"image_{len(labels):05}.jpg", label, row)
    savemat(base / "setid.mat", {"trnid": ids["train"], "valid": ids["val"], "tstid": ids["test"]})
    savemat(base / "imagelabels.mat", {"labels": labels})
    known = {kind: (file, md5(base / file)) for kind, (file, _) in Flowers102._file_dict.items() if kind != "image"}
    patch(Flowers102, "_file_dict", Flowers102._file_dict | known)


def food101(root, name, classes, patch):
    for split in ("train", "test"):
        meta: dict[str, list[str]] = {}
        for label, row in rows(split, classes):
            folder = TASKS["Food101"].source.folders[label]
            meta.setdefault(folder, []).append(f"{folder}/{row}")
            picture(root / "food-101" / "images" / folder / f"{row}.jpg", label, row)
        write(root / "food-101" / "meta" / f"{split}.json", json.dumps(meta))


def sst2(root, name, classes, patch):
    for split in ("train", "test"):
        for label, row in rows(split, classes):
            picture(root / "rendered-sst2" / split / ("negative", "positive")[label] / f"{row}.png", label, row)


WRITERS = {
    "Cars": cars, "DTD": dtd, "DTD-leaky": dtd, "EuroSAT": eurosat, "GTSRB": gtsrb, "MNIST": idx, "RESISC45": resisc45, "SVHN": svhn,
    "SUN397": sun397, "STL10": stl10, "OxfordIIITPet": pets, "Flowers102": flowers, "CIFAR100": cifar, "PCAM": pcam,
    "FER2013": fer2013, "CIFAR10": cifar, "Food101": food101, "FashionMNIST": idx, "RenderedSST2": sst2, "EMNIST": idx,
    "KMNIST": idx,
}  # fmt: skip


def small(name: str) -> Task:
    """The row of a task with its first three classes (two where it has no more) and the miniature's sizes."""
    row = TASKS[name]
    n = min(3, len(row.classes))
    train, test = (PER_CLASS[split] * n for split in ("train", "test"))
    sizes = {
        "EuroSAT": Sizes(8 * n, n, n),
        "DTD": Sizes(train + test - 3, 3, test),
        "DTD-leaky": Sizes(train + 2 * test - 4, 4, test),
    }.get(name, Sizes(train - train // 10, train // 10, test))
    hub = row.source.hub and replace(row.source.hub, names=row.source.hub.names[:n])
    return replace(
        row, classes=row.classes[:n], source=replace(row.source, folders=row.source.folders[:n], sizes=sizes, hub=hub)
    )


def miniature(root: Path, name: str, patch) -> Task:
    """Write the miniature of a data set below `root`. `patch` sets what torchvision knows of the files' md5."""
    row = small(name)
    WRITERS[name](root, name, len(row.classes), patch)
    return row


def parquet(path: Path, split: str, classes: int, names: list[str] | None = None) -> None:
    """A file of a hub repository: encoded pictures and labels, with the names of the classes if there are any."""
    import datasets

    def encoded(label, row):
        buffer = io.BytesIO()
        Image.fromarray(grey(label, row, (14, 20, 3))).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    pairs, kind = rows(split, classes), datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    table = datasets.Dataset.from_dict(
        {"image": [encoded(*pair) for pair in pairs], "label": [label for label, _ in pairs]},
        features=datasets.Features({"image": datasets.Image(), "label": kind}),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


def tar(path: Path, split: str, classes: int) -> None:
    """A file of webdataset, as the hub has FER2013: N.png and N.cls one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, (label, row) in enumerate(rows(split, classes)):
            buffer = io.BytesIO()
            Image.fromarray(grey(label, row, (48, 48))).save(buffer, "PNG")
            for name, content in ((f"s{i:07}.png", buffer.getvalue()), (f"s{i:07}.cls", str(label).encode())):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def class_folders(root: Path, row: Task) -> None:
    for split in ("train", "test"):
        for label, number in rows(split, len(row.classes)):
            picture(root / "folders" / row.name / split / row.source.folders[label] / f"{number}.png", label, number)
