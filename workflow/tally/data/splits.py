"""Validation data out of the training data, and splits that share no picture."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from tally.errors import TallyError

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def random_rows(n: int, share: float, most: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training and of the validation data: int64, disjoint, n together.

    The authors' split: `share` of the rows but at most `most`, drawn by `torch.utils.data.random_split` with a generator
    seeded 0, whatever the run's seed. Of MNIST's 60,000 rows the first for training is 36044.
    """
    import torch  # 2 s, so only where a data set has no validation data of its own
    from torch.utils.data import random_split

    held = min(int(n * share), most)
    parts = random_split(range(n), [n - held, held], generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return np.array(parts[0].indices, dtype=np.int64), np.array(parts[1].indices, dtype=np.int64)


def with_validation(splits: Splits, share: float) -> Splits:
    """Hold out validation data from "train" unless there is "val" already."""
    if "val" in splits:
        return splits
    images, labels = splits["train"]
    train, val = random_rows(len(labels), share)
    return {"train": (images[train], labels[train]), "val": (images[val], labels[val]), "test": splits["test"]}


def check_labels(name: str, classes: Sequence[str], labels: Mapping[str, np.ndarray]) -> None:
    """Raise TallyError for a label of no class, a split without pictures and a class without, by split int64 (N,)."""
    n = len(classes)
    for split, own in labels.items():
        outside = own[(own < 0) | (own >= n)]
        if len(outside):
            raise TallyError(
                f"{name}: label {outside[0]} in {split}, but the task has {n} classes; the files are another data set's"
            )
        if not len(own):
            raise TallyError(f"{name}: no picture in {split}; give it a folder of its own, or more to train with")
        empty = np.flatnonzero(np.bincount(own, minlength=n) == 0)
        if split != "val" and len(empty):  # a small validation split may by chance lack a class; the others must not
            raise TallyError(
                f"{name}: no picture of class '{classes[empty[0]]}' in {split}; every class needs at least one"
            )


def hashes(images: np.ndarray) -> list[bytes]:
    """sha256 of each picture of uint8 (N, 3, R, R)."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def disjoint(splits: Splits) -> Splits:
    """Drop what another split has too: test keeps everything, validation what test lacks, training what both lack.

    Equal means equal pixels. Order and repetitions within a split stay.
    """
    seen: set[bytes] = set()
    out: Splits = {}
    for split in ("test", "val", "train"):
        images, labels = splits[split]
        own = hashes(images)
        keep = np.array([digest not in seen for digest in own], dtype=bool)
        out[split] = images[keep], labels[keep]
        seen.update(own)
    return {split: out[split] for split in ("train", "val", "test")}
