"""Loaders of real data sets, one a kind of storage; a data set is a row of the task table, not a file here.

Each takes (resources, resolution, seed) last and returns {split: (images uint8 (N, 3, R, R), labels int64 (N,))};
a "val" split is there only where the data set has its own.
"""

import gzip
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from tally.data.splits import Splits
from tally.errors import TallyError

SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".ppm",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".pgm",
}  # what torchvision's ImageFolder takes
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}  # 8 bits a channel; others would be clipped unseen


def fit(image: Image.Image, resolution: int) -> np.ndarray:
    """CLIP's preprocessing up to the normalisation: RGB, shorter side to R (bicubic, antialiased), centre crop. -> uint8 (3, R, R)

    Agrees with torchvision's Resize(R, BICUBIC), CenterCrop(R) on the image as ImageFolder opens it.
    """
    image = image.convert("RGB")
    w, h = image.size
    if min(w, h) != resolution:
        short, long = min(w, h), max(w, h)
        long = int(resolution * long / short)
        image = image.resize((resolution, long) if w <= h else (long, resolution), Image.Resampling.BICUBIC)
    left, top = round((image.width - resolution) / 2.0), round((image.height - resolution) / 2.0)
    image = image.crop((left, top, left + resolution, top + resolution))
    return np.asarray(image).transpose(2, 0, 1)


def fit_all(images: Iterable[Image.Image], n: int, resolution: int) -> np.ndarray:
    out = np.empty((n, 3, resolution, resolution), dtype=np.uint8)
    for i, image in enumerate(images):
        out[i] = fit(image, resolution)
    return out


# --- the raw files of the MNIST family --------------------------------------------------------------------------------


def idx(folder: str, resources: Path, resolution: int, seed: int) -> Splits:
    """MNIST, Fashion-MNIST, KMNIST: four idx files in `folder`, plain (as torchvision unpacks them) or .gz (as published)."""
    splits = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images = read_idx(resources / folder / f"{stem}-images-idx3-ubyte", 3)  # (N, 28, 28)
        labels = read_idx(resources / folder / f"{stem}-labels-idx1-ubyte", 1)  # (N,)
        if len(images) != len(labels):
            raise TallyError(
                f"{resources / folder}: {len(images)} {split} images but {len(labels)} labels; fetch the files again"
            )
        splits[split] = fit_all(map(Image.fromarray, images), len(images), resolution), labels.astype(np.int64)
    return splits


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """One idx file of unsigned bytes, at `path` or `path`.gz: uint8 with that many dimensions.

    The format: two zero bytes, 8 for uint8, the number of dimensions, each size as a big-endian 32-bit integer, the data.
    """
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise TallyError(
            f"{path}: no such file, nor with .gz; put the data set there (resources/README.md says from where)"
        )
    path = path if path.exists() else packed
    try:
        data = path.read_bytes() if path != packed else gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as problem:
        raise TallyError(f"{path}: cannot be unpacked ({problem}); fetch the file again") from None
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) != start + math.prod(sizes):
        raise TallyError(
            f"{path}: not an idx file of bytes with {dimensions} dimensions, or cut short; fetch the file again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes)


# --- a folder a class -------------------------------------------------------------------------------------------------


def folders(folder: str, names: Sequence[str], resources: Path, resolution: int, seed: int) -> Splits:
    """Pictures as `folder`/{train,test[,val]}/<name>/<picture>; `names` are the class folders in the order of the labels."""
    root = resources / folder
    splits = {}
    for split in ("train", "val", "test"):
        if split == "val" and not (root / split).is_dir():
            continue
        files = [(path, label) for label, name in enumerate(names) for path in pictures(root / split / name)]
        strangers = sorted(path.name for path in (root / split).iterdir() if path.is_dir() and path.name not in names)
        if strangers:
            raise TallyError(
                f"{root / split / strangers[0]}: a folder for no class of the task; remove it or add the class to the table"
            )
        images = fit_all((open_picture(path) for path, _ in files), len(files), resolution)
        splits[split] = images, np.array([label for _, label in files], dtype=np.int64)
    return splits


def pictures(folder: Path) -> list[Path]:
    """The pictures below a class folder, sorted by path as torchvision's ImageFolder sorts them."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise TallyError(f"{folder}: no pictures of this class; every class needs at least one in each split")
    return paths


def open_picture(path: Path | str | IO[bytes], name: str = "") -> Image.Image:
    """A picture of 8 bits a channel as RGB; `name` is what to call it in an error, if not its path."""
    try:
        with Image.open(path) as image:
            image.load()
            mode = image.mode
            if mode in MODES:
                return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise TallyError(f"{name or path}: cannot be read as a picture ({problem}); replace or remove it") from None
    raise TallyError(f"{name or path}: pixels of mode {mode}, not 8 bits a channel; convert it to 8-bit RGB")


# --- data that a package ships ----------------------------------------------------------------------------------------


def digits(resources: Path, resolution: int, seed: int) -> Splits:
    """The 1,797 handwritten digits of UCI that scikit-learn ships, 8 x 8 with 17 levels of grey."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = fit_all(
        (Image.fromarray(np.round(x * (255 / 16)).astype(np.uint8)) for x in data.images), len(data.images), resolution
    )
    # the file keeps each writer's digits together: mix them
    order = np.random.default_rng(seed).permutation(len(images))
    parts = {"train": order[:1000], "val": order[1000:1200], "test": order[1200:]}
    return {split: (images[rows], data.target[rows].astype(np.int64)) for split, rows in parts.items()}
