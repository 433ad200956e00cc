"""What a task is: a row of the table, and where its pictures come from."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tally.data.questions import Questions
from tally.data.splits import Splits
from tally.data.text_task import TextTask
from tally.files import sha256


class Sizes(NamedTuple):
    """Pictures of each split."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Hub:
    """A data set repository of the Hugging Face hub: parquet files, or tar files of webdataset."""

    repository: str
    config: str = ""  # of several in the repository
    train: str = "train"  # what the repository calls the splits
    test: str = "test"
    label: str = "label"  # column
    names: tuple[str, ...] = ()  # of its labels, as the task's classes: where it names them otherwise or not at all
    revision: str | None = None  # commit; None: the newest, and the one that came is written beside the files


@dataclass(frozen=True)
class Published:
    """Pictures that lie outside of this repository, in one of up to three forms below the folder `data` of the config.

    `layout`: as torchvision's class or the makers' archive lays them out, in `data`/`place`; a reader of tally.data.layouts.
    `hub`: the files of a repository in `data`/hub/<task>. And always a folder per class in `data`/folders/<task>/<split>.
    """

    folders: tuple[str, ...]  # names of the class folders, in the order of the labels
    sizes: Sizes | None = None  # None: any
    layout: str = ""
    place: str = ""
    hub: Hub | None = None
    by_hand: tuple[str, ...] = ()  # of the layout, if no program can fetch it: what goes where
    leaky: bool = False  # the test pictures are in the training data, on purpose


Source = Callable[[Path, int, int], Splits]


@dataclass(frozen=True)
class Task:
    """One classification task.

    `classes` go into each of the `templates` to make the texts of the head. `source` is Published, or embedded: then
    `source(resources, resolution, seed)` returns {split: (images uint8 (N, 3, R, R), labels int64 (N,))}. Where there is
    no "val", `validation` is the share of the training data held out, at most 5000 pictures.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    source: Source | Published
    license: str  # of the pictures
    origin: str  # where they come from
    validation: float = 0.1
    epochs: int | None = None  # of the paper's fine-tuning


def folder_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Class names as names of folders: what is neither a letter, a digit, nor one of .+- becomes _."""
    return tuple(re.sub(r"[^\w.+-]+", "_", name).strip("_") for name in classes)


def fingerprint(row: Task | Questions | TextTask) -> str:
    """Changes when the row does: classes, templates, source or split. The workflow redoes a task by it, not by this file."""
    if isinstance(row, Questions):
        return hashlib.sha256(repr(replace(row, by_hand="")).encode()).hexdigest()[:12]
    if isinstance(row, TextTask):
        text = repr((dict(row.sentences), row.templates, row.source.func.__qualname__, row.source.args))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
    func, args = _source(row)
    named = [arg.__qualname__ if callable(arg) else arg for arg in args]
    text = repr((row.classes, row.templates, row.validation, func.__qualname__, named))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def contents(row: Task | Questions | TextTask, resources: Path) -> str:
    """Changes when the row's files below `resources` do: pictures in folders, idx files, tables. Others' data it does not see."""
    args = row.source.args if isinstance(row.source, partial) else ()
    places = [resources / arg for arg in args if isinstance(arg, str) and arg and (resources / arg).exists()]
    inside = sorted(path for place in places for path in (place, *place.rglob("*")) if path.is_file())
    text = "\n".join(f"{path.relative_to(resources)} {sha256(path)}" for path in inside)
    return hashlib.sha256(text.encode()).hexdigest()[:12] if places else ""


def modules(row: Task | Questions | TextTask) -> list[str]:
    """Modules below `tally` that load or draw the row's pictures: 'data/sources', or 'data/generated' and a scene's."""
    if isinstance(row, Questions):
        return ["data/qa", "models/tokens"]
    if isinstance(row, TextTask):
        return ["data/corpora", "data/similar", "data/texts", "models/tokens"]
    if isinstance(row.source, Published):
        return [f"data/{name}" for name in ("cache", "decoding", "hub", "layouts", "pictures", "published", "sources")]
    func, args = _source(row)
    used = {f.__module__.removeprefix("tally.").replace(".", "/") for f in (func, *args) if callable(f)}
    return sorted(used | ({"data/draw"} if "data/generated" in used else set()))


def _source(row: Task) -> tuple[Callable, tuple]:
    if isinstance(row.source, Published):  # the fields that decide what the pictures are
        return Published, (row.source.folders, row.source.sizes, row.source.layout, row.source.hub)
    return (row.source.func, row.source.args) if isinstance(row.source, partial) else (row.source, ())
