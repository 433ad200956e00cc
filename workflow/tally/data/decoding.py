"""Decode, hash and resize many pictures in several processes, into memory that they share."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from PIL import Image
from tally.data.pictures import Parts, file_of
from tally.data.sources import fit
from tally.data.splits import random_rows
from tally.errors import TallyError
from tally.partial import Partial
from tally.progress import bar

SPLITS = ("train", "val", "test")
CHUNK = 64  # pictures that a process takes at a time
MARK = 32  # chunks between two writings of the marks


class Place(NamedTuple):
    """Where the rows of a part go: the split of each, and the row there."""

    split: np.ndarray  # number in SPLITS, int64 (N,)
    row: np.ndarray  # int64 (N,)


def plan(parts: Parts, validation: float) -> dict[str, Place]:
    """The place of every picture: a part is a split, but a share of the training data is validation if no part is."""
    found = {}
    for name, part in parts.items():
        split, row = np.full(len(part), SPLITS.index(name)), np.arange(len(part))
        if name == "train" and "val" not in parts:
            train, val = random_rows(len(part), validation)
            for number, rows in ((0, train), (1, val)):
                split[rows], row[rows] = number, np.arange(len(rows))
        found[name] = Place(split, row)
    return found


class Done(NamedTuple):
    """A chunk: split, row, label and digest of each picture; and what could not be read, in words."""

    pictures: list[tuple[int, int, int, bytes]]
    errors: list[str]


def decode(
    parts: Parts, places: Mapping[str, Place], resolution: int, writer: Partial | None, processes: int, label: str
) -> Iterator[Done]:
    """Decode what is not yet marked in `writer`, a chunk at a time and in order; without a writer, all of it for a check."""
    jobs = []
    for name, place in places.items():
        todo = np.arange(len(place.row))
        if writer is not None:
            marks = [writer[f"{split}.sha256"] for split in SPLITS]
            todo = todo[[not marks[s][r].any() for s, r in zip(place.split, place.row)]]
        jobs += [(name, todo[i : i + CHUNK]) for i in range(0, len(todo), CHUNK)]
    total = sum(len(place.row) for place in places.values())
    initial = total - sum(len(rows) for _, rows in jobs)
    steps = iter(bar(range(initial, total), label, total, "picture", initial))
    pending: list[tuple[int, int, int, bytes]] = []

    def mark() -> None:
        writer.flush()  # a mark is never on disk before its picture
        for split, row, number, digest in pending:
            writer[f"{SPLITS[split]}.labels"][row] = number
            writer[f"{SPLITS[split]}.sha256"][row] = np.frombuffer(digest, np.uint8)
        pending.clear()

    for i, done in enumerate(_spread(Worker(parts, places, resolution, writer), jobs, processes)):
        if writer is not None:
            pending += done.pictures
            if (i + 1) % MARK == 0 or i + 1 == len(jobs) or done.errors:
                mark()
        for _ in range(len(done.pictures) + len(done.errors)):
            next(steps, None)
        yield done
    next(steps, None)


class Worker(NamedTuple):
    """What a process needs to decode; the writer's memory is shared by all of them."""

    parts: Parts
    places: Mapping[str, Place]
    resolution: int
    writer: Partial | None

    def work(self, name: str, rows: np.ndarray) -> Done:
        done, errors = [], []
        part, place = self.parts[name], self.places[name]
        for row in rows.tolist():
            try:
                picture, label = part[row]
                picture = picture.convert("RGB")
            except TallyError as error:
                errors.append(str(error))
                continue
            except (
                OSError,
                SyntaxError,
                ValueError,
                Image.DecompressionBombError,
            ) as error:  # what Pillow raises for a broken file
                errors.append(f"{file_of(part, row)}: cannot be read as a picture ({error}); replace or remove it")
                continue
            digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode() + picture.tobytes()).digest()
            split, to = int(place.split[row]), int(place.row[row])
            if self.writer is not None:
                self.writer[f"{SPLITS[split]}.inputs"][to] = fit(picture, self.resolution)
            done.append((split, to, int(label), digest))
        return Done(done, errors)


_worker: Worker


def _begin(worker: Worker) -> None:
    global _worker
    _worker = worker
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the process that started this one, also where that was killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _work(job: tuple[str, np.ndarray]) -> Done:
    return _worker.work(*job)


def _spread(worker: Worker, jobs: list[tuple[str, np.ndarray]], processes: int) -> Iterator[Done]:
    if processes == 1:
        yield from (worker.work(*job) for job in jobs)
        return
    # forked: the data set is opened once, and the memory map is shared
    with ProcessPoolExecutor(processes, get_context("fork"), _begin, (worker,)) as pool:
        try:
            yield from pool.map(_work, jobs)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
