"""A training that survives: snapshots on disk, whole or absent, and the moment to write one.

They are safetensors files in a folder of the training's own, `step-<steps done>.safetensors`. One of another training (task,
seed, recipe, base, data) or with a changed byte is never trusted: it is skipped with a note.
"""

import hashlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tally.checkpoints import as_checkpoint, open_checkpoint, save
from tally.errors import TallyError
from tally.finetune import Snapshot
from tally.ranks import ALONE, Ranks

KEPT = 2  # the newest, and the one before it should the newest be damaged
FACTS = ("training", "step", "streams")


def write(folder: Path, snapshot: Snapshot, training: Mapping[str, Any]) -> Path:
    """Write one snapshot, atomically. `training` is JSON that tells trainings apart."""
    path = folder / f"step-{snapshot.step:08}.safetensors"
    facts = {"training": training, "step": snapshot.step, "streams": snapshot.streams}
    tensors = as_checkpoint(snapshot.tensors)
    save(path, tensors, "snapshot", facts | {"sha256": digest(tensors.tensors, facts)})
    return path


def read(path: Path, training: Mapping[str, Any]) -> Snapshot:
    """One snapshot; TallyError if it is damaged or another training's."""
    file = open_checkpoint(path)
    try:
        facts = {name: json.loads(file.metadata[name]) for name in FACTS}
        made, whole = dict(facts["training"]), file.metadata["sha256"] == digest(file.tensors, facts)
    except (KeyError, ValueError, TypeError):
        whole = False
    if not whole:
        raise TallyError(f"{path} is damaged or no snapshot of a training")
    differ = sorted(key for key in made.keys() | training.keys() if made.get(key) != training.get(key))
    if differ:
        raise TallyError(f"{path} is of another training, with other {', '.join(differ)}")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in file.tensors.items()}
    return Snapshot(facts["step"], tensors, facts["streams"])


def digest(tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """sha256 over facts, names and bytes."""
    total = hashlib.sha256(json.dumps([facts[name] for name in FACTS], sort_keys=True).encode())
    for name in sorted(tensors):
        total.update(f"\n{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        total.update(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


class Keeper:
    """Keeps one training's snapshots: every so many minutes, on SIGUSR1, and on SIGTERM, which also ends the process.

    As a context it listens to these signals; between two steps it does what they ask. Rank 0 writes; a signal to
    one rank is a signal to all.
    """

    def __init__(self, folder: Path, training: Mapping[str, Any], minutes: float, ranks: Ranks = ALONE):
        self.folder, self.training, self.minutes, self.ranks = folder, training, minutes, ranks
        self.kept: list[Path] = []
        self.asked = self.told_to_stop = False
        self.written = time.monotonic()

    def __enter__(self) -> "Keeper":
        def ask(number, frame):
            self.asked = True

        def stop(number, frame):
            self.told_to_stop = True

        wishes = {signal.SIGUSR1: ask, signal.SIGTERM: stop}
        self.before = {number: signal.signal(number, do) for number, do in wishes.items()}
        return self

    def __exit__(self, *_) -> None:
        for number, do in self.before.items():
            signal.signal(number, do)

    def newest(self) -> Snapshot | None:
        """The newest whole snapshot of this training, or None. TallyError if the ranks do not find the same."""
        found = None
        for path in sorted(self.folder.glob("step-*.safetensors"), reverse=True):
            try:
                found = read(path, self.training)
            except TallyError as error:
                self._say(f"{error}; skipped")
                continue
            self.kept = [path]
            self._say(f"goes on after step {found.step}, from {path}")
            break
        step = found.step if found else 0
        if self.ranks.totals(step) != [step * self.ranks.world]:
            raise TallyError(f"the processes see different snapshots in {self.folder}; use a folder that all share")
        return found

    def keep(self, snapshot: Callable[[], Snapshot]) -> None:
        """Write a snapshot if it is time to, or asked for. SystemExit 143 after a SIGTERM."""
        asked, stop = self.ranks.totals(self.asked, self.told_to_stop)
        self.asked = False
        if self.ranks.rank == 0 and (asked or stop or time.monotonic() - self.written >= 60 * self.minutes):
            self._write(snapshot())
        if stop:
            self._say(f"stopped; the next run goes on from {self.folder}")
            sys.exit(128 + signal.SIGTERM)

    def _write(self, snapshot: Snapshot) -> None:
        self.written = time.monotonic()
        try:
            self.kept = [*self.kept, write(self.folder, snapshot, self.training)][-KEPT:]
        except TallyError as error:  # a full disk now may have room when the training ends
            self._say(f"{error}; the training goes on without this snapshot")
            return
        for old in self.folder.iterdir():  # also foreign and damaged ones, and what a kill left half-written
            if old not in self.kept:
                with suppress(OSError):
                    old.unlink()

    def done(self) -> None:
        """Remove the snapshots of a training whose weights are saved."""
        if self.ranks.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _say(self, text: str) -> None:
        if self.ranks.rank == 0:
            print(f"note: {text}", file=sys.stderr)
