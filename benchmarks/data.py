"""Evaluation of a CLIP ViT-B/32 from the prepared cache beside decoding every picture every time, on generated JPEGs.

python benchmarks/data.py [--pictures 768] [--processes 2] [--device cpu]

The pictures are 500 x 375, quality 90, of ImageNet's size in bytes; the weights are random, which costs the same. Both
sides run the same evaluation on one thread, with the same number of processes to decode; the page cache is emptied of
the files before each row that says cold.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tally.accelerators import take
from tally.data.cache import cache
from tally.data.published import open_published
from tally.data.sources import fit
from tally.data.tasks import TASKS
from tally.evaluate import Examiner, load_split, precision
from tally.models.architecture import architecture
from tally.models.base import Model
from tally.models.clip import Clip, encode_image
from tally.pretrain import initial_weights
from torch import Tensor

CLASSES, BATCH, SIDE = 4, 64, 224


def write_jpegs(folder: Path, count: int) -> int:
    """Coloured noise of all scales, as photographs have it. Returns their mean size in bytes."""
    rng, total = np.random.default_rng(0), 0
    for i in range(count):
        layers = [rng.integers(0, 256, (375 >> s, 500 >> s, 3)).astype(np.uint8) for s in range(0, 8, 2)]
        scaled = [
            np.asarray(Image.fromarray(x).resize((500, 375), Image.Resampling.BICUBIC), np.float32) for x in layers
        ]
        picture = sum(weight * x for weight, x in zip((0.13, 0.17, 0.3, 0.4), scaled))
        path = folder / ("test" if i % 2 else "train") / f"c{i // 2 % CLASSES}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(path, quality=90)
        total += path.stat().st_size
    return total // count


def forget(*paths: Path) -> None:
    """Drop files from the page cache."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Decoded(torch.utils.data.Dataset):
    """A part of a data set as the authors' loaders give it: decoded and resized when it is asked for."""

    def __init__(self, part):
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        picture, label = self.part[row]
        return torch.from_numpy(fit(picture, SIDE)), label


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--pictures", type=int, default=768)
    args.add_argument("--processes", type=int, default=2)
    args.add_argument("--device", default="cpu")
    args = args.parse_args()
    torch.set_num_threads(1)
    device = take(args.device)
    with tempfile.TemporaryDirectory() as name:
        data, output = Path(name), Path(name) / "prepared.safetensors"
        size = write_jpegs(data / "folders" / "DTD", args.pictures)
        row = TASKS["DTD"]
        names = tuple(f"c{i}" for i in range(CLASSES))
        row = replace(row, classes=names, source=replace(row.source, folders=names, sizes=None))
        jpegs = list((data / "folders").rglob("*.jpg"))

        forget(*jpegs)
        start = time.perf_counter()
        cache(row, SIDE, data=data, output=output, form="folders", processes=args.processes)
        prepared = args.pictures / (time.perf_counter() - start)
        part = open_published(row, data, "folders")[1]["test"]
        n = len(part)

        config = architecture("ViT-B-32-quickgelu")
        (data / "config.json").write_text(json.dumps(config))
        clip = Clip.from_config(config)
        model = Model(lambda weights, images: encode_image(weights, clip, images), None, ("visual.",))  # type: ignore[arg-type]
        dtype = precision("auto", device)
        examiner = Examiner(model, dtype, BATCH, device)
        weights = {k: w for k, w in initial_weights(data / "config.json", 0).items() if k.startswith("visual.")}
        weights = examiner.cast(weights)
        head = torch.randn(CLASSES, 512, generator=torch.Generator().manual_seed(0))

        def cached() -> Iterator[tuple[Tensor, Tensor]]:
            split = load_split(output, "test")
            yield from zip(split.inputs.split(BATCH), split.labels.split(BATCH))

        def decoded() -> Iterator[tuple[Tensor, Tensor]]:
            yield from torch.utils.data.DataLoader(Decoded(part), BATCH, num_workers=args.processes)

        def examine(batches) -> None:
            for inputs, labels in batches:
                examiner.margins(weights, inputs, [(head, labels)])

        def read(batches) -> None:
            for inputs, _ in batches:
                inputs.clone()  # every byte is touched

        def rate(work, batches, cold: bool) -> float:
            forget(*(jpegs + [output] if cold else []))
            start = time.perf_counter()
            work(batches())
            return n / (time.perf_counter() - start)

        examine([next(iter(cached()))])  # warm up
        rows = {
            (label, state): [rate(work, batches, state == "cold") for work in (read, examine)]
            for label, batches in (("from the cache", cached), ("decoding every time", decoded))
            for state in ("cold", "warm")
        }
        alone = rate(examine, lambda: [(x.clone(), y) for x, y in cached()], False)
    print(
        f"{n} of {args.pictures} JPEGs of {size / 1000:.0f} kB, {args.processes} processes, {dtype}, {device}; images/s"
    )
    print(f"prepared once: {prepared:.0f}; ViT-B/32 with the pictures in memory: {alone:.0f}")
    print(f"{'':22}{'':6}{'read':>9}{'evaluate':>10}{'reading is':>12}")
    for (label, state), (reading, evaluating) in rows.items():
        print(f"{label:22}{state:6}{reading:9.0f}{evaluating:10.1f}{evaluating / reading:12.1%}")


if __name__ == "__main__":
    main()
