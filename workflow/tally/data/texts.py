"""From a row of the task table to token ids that training and evaluation read."""

import sys
from pathlib import Path

import numpy as np
from tally.data.similar import originals
from tally.data.text_task import Texts, TextTask
from tally.errors import TallyError
from tally.models.tokens import Tokenizer

SIZES = {"test": 1000, "val": 400, "train": 4000}  # at most; where texts are few, a quarter and a tenth of them


def prepare(
    task: TextTask, tokenizer: Tokenizer, context: int, *, cut: bool = True, resources: Path
) -> dict[str, np.ndarray]:
    """All texts of a task as token ids, in three splits of which no two hold nearly the same text.

    Returns {"train.inputs": int32 (N, context), filled up with 0, "train.labels": int64 (N,), and the same for "val" and
    "test"}; labels are places in `task.classes`. Rows of "val" and "test" go from the shortest to the longest, so that a
    batch of them holds little padding. A text longer than `context` is cut, and the number of those is told on stderr, or
    refused. Raises TallyError on missing or bad files, a label without a sentence and a class without texts.
    """
    splits = {}
    for split, (texts, labels) in split_up(task.source(Path(resources))).items():
        found = tokenizer.tokens(texts, context, what=f"{task.name}, {split}", cut=cut)
        if found.cut:
            print(f"{task.name}, {split}: {found.cut} of {len(texts)} texts cut to {context} tokens", file=sys.stderr)
        numbers = numbered(task, split, labels)
        if split != "train":
            order = np.argsort((found.ids != 0).sum(axis=1), kind="stable")
            found, numbers = found._replace(ids=found.ids[order]), numbers[order]
        splits |= {f"{split}.inputs": found.ids, f"{split}.labels": numbers}
    return splits


def split_up(published: Texts, seed: int = 0) -> dict[str, tuple[list[str], list[str]]]:
    """At most SIZES texts a split, drawn at random, no two of all nearly the same: of such the test data keep theirs.

    Splits that are not published come out of "train", or of "all".
    """
    rng = np.random.default_rng(seed)
    rows = []  # (published split, text, label), test data first
    for split in ("test", "val", "train", "all"):
        texts, labels = published.get(split, ([], []))
        pool = rng.permutation(len(texts))[
            : 3 * sum(SIZES.values()) // 2
        ]  # enough of them is left without the repetitions
        rows += [(split, " ".join(texts[i].split()), labels[i]) for i in pool]
    rows = [row for row, keep in zip(rows, originals([text for _, text, _ in rows])) if keep]
    places: dict[str, list[int]] = {split: [] for split in ("train", "val", "test")}
    free = []
    for i, (split, _, _) in enumerate(rows):
        (free if split in ("train", "all") else places[split]).append(i)
    for split, share in (("test", 4), ("val", 10)):
        if not places[split] and split not in published:
            n = min(SIZES[split], len(free) // share)
            places[split], free = free[:n], free[n:]
    places["train"] = free
    return {
        split: ([rows[i][1] for i in own[: SIZES[split]]], [rows[i][2] for i in own[: SIZES[split]]])
        for split, own in places.items()
    }


def numbered(task: TextTask, split: str, labels: list[str]) -> np.ndarray:
    """Places of the labels in `task.classes`: int64 (N,)."""
    place = {label: i for i, label in enumerate(task.sentences)}
    strangers = sorted(set(labels) - set(place))
    if strangers:
        raise TallyError(
            f"{task.name}: label '{strangers[0]}' in {split} has no sentence; give it one in the task's row, beside {', '.join(place)}"
        )
    missing = [label for label in place if label not in set(labels)]
    if missing and split != "val":  # which is small, and may by chance lack a class
        raise TallyError(f"{task.name}: no text of class '{missing[0]}' in {split}; every class needs at least one")
    return np.array([place[label] for label in labels], dtype=np.int64)
