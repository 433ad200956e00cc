"""Generated tasks: pictures drawn from a seed, so that a benchmark needs no download.

A task is a picture function `picture(size, label, test, rng)`. It returns a drawing of twice `size` and the keywords of
`draw.finish`. `test` lets it keep something back for the test split, such as a font that training never sees.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tally.data import draw
from tally.data.splits import Splits

Picture = Callable[[int, int, bool, random.Random], tuple[Image.Image, dict[str, float]]]
SIZES = {"train": 3600, "val": 400, "test": 1000}
FEW = {"train": 64, "val": 16, "test": 32}  # for rehearsals at a large model's resolution


def stream(name: str, split: str, seed: int) -> random.Random:
    """The random stream of a split of a task; other tasks, splits and seeds have others, the same on every machine."""
    return random.Random(int.from_bytes(hashlib.sha256(f"{name}/{split}/{seed}".encode()).digest()[:8], "big"))


def generate(name: str, picture: Picture, classes: int, resources: Path, resolution: int, seed: int) -> Splits:
    """Draw a task: {"train" | "val" | "test": (images uint8 (N, 3, R, R), labels int64 (N,))}, classes equally often.

    `resources` is not read; every source of the task table takes it.
    """
    return _draw(SIZES, name, picture, classes, resolution, seed)


def generate_few(name: str, picture: Picture, classes: int, resources: Path, resolution: int, seed: int) -> Splits:
    """The same with FEW pictures."""
    return _draw(FEW, name, picture, classes, resolution, seed)


def _draw(sizes: dict[str, int], name: str, picture: Picture, classes: int, resolution: int, seed: int) -> Splits:
    splits = {}
    for split, n in sizes.items():
        rng = stream(name, split, seed)
        images = np.empty((n, 3, resolution, resolution), dtype=np.uint8)
        labels = np.arange(n, dtype=np.int64) % classes
        for i, label in enumerate(labels):
            image, look = picture(resolution, int(label), split == "test", rng)
            images[i] = draw.finish(image, rng, **look).transpose(2, 0, 1)
        splits[split] = images, labels
    return splits
