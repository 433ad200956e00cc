"""Pictures that are decoded when touched: the form in which every published data set is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from tally.data.sources import open_picture, pictures
from tally.errors import TallyError


class Pictures(Protocol):
    """What torchvision's data sets are too: pictures[i] is a picture and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> tuple[Image.Image, int]: ...


Parts = dict[str, Pictures]  # "train" and "test", and "val" where a data set has its own


@dataclass(frozen=True)
class Files:
    """A file per picture."""

    paths: Sequence[Path]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return open_picture(self.paths[row]), self.labels[row]


@dataclass(frozen=True)
class Arrays:
    """Pictures in memory: uint8 (N, H, W, 3)."""

    images: np.ndarray
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[row]), self.labels[row]


def class_folders(root: Path, names: Sequence[str]) -> Parts:
    """Pictures as `root`/{train,test[,val]}/<name>/<picture>; `names` are the class folders in the order of the labels."""
    parts: Parts = {}
    for split in ("train", "val", "test"):
        if split == "val" and not (root / split).is_dir():
            continue
        files = [(path, label) for label, name in enumerate(names) for path in pictures(root / split / name)]
        if strangers := {path.name for path in (root / split).iterdir() if path.is_dir()} - set(names):
            raise TallyError(
                f"{root / split / min(strangers)}: a folder for no class of the task; remove it or add the class to the table"
            )
        parts[split] = Files([path for path, _ in files], [label for _, label in files])
    return parts


def file_of(part: Pictures, row: int) -> str:
    """What to call a picture that cannot be read: its file, where the data set knows one, else its place."""
    for name in ("_images", "_samples", "_image_files"):  # of torchvision's classes that open files themselves
        if hasattr(part, name):
            entry = getattr(part, name)[row]
            return str(entry[0] if isinstance(entry, tuple) else entry)
    return f"picture {row}"
