"""From a row of the task table to arrays that training and evaluation read."""

from pathlib import Path

import numpy as np
from tally.data.splits import disjoint, with_validation
from tally.data.task import Task
from tally.errors import TallyError


def prepare(task: Task, resolution: int, *, seed: int = 0, resources: Path) -> dict[str, np.ndarray]:
    """All pictures of a task at one resolution, each decoded and resized once, in three splits without a common picture.

    `resources` is the folder of the data sets; `seed` changes the generated tasks and the split of `digits`, never a
    published split. Returns {"train.inputs": uint8 (N, 3, R, R), "train.labels": int64 (N,), and the same for "val" and
    "test"}; labels are places in `task.classes`. Raises TallyError on missing or bad files and on a class without
    pictures.
    """
    if resolution < 1:
        raise TallyError(f"resolution {resolution}: must be at least 1 pixel")
    splits = disjoint(with_validation(task.source(Path(resources), resolution, seed), task.validation))
    arrays = {}
    for split, (images, labels) in splits.items():
        n = len(task.classes)
        wrong = labels[(labels < 0) | (labels >= n)]
        if len(wrong):
            raise TallyError(
                f"{task.name}: label {wrong[0]} in {split}, but the task has {n} classes; the files are another data set's"
            )
        if not len(labels):
            raise TallyError(f"{task.name}: no picture in {split}; give it a folder of its own, or more to train with")
        # a small validation split may by chance lack a class; the others must not
        empty = [task.classes[i] for i in range(n) if split != "val" and not (labels == i).any()]
        if empty:
            raise TallyError(
                f"{task.name}: no picture of class '{empty[0]}' in {split}; every class needs at least one"
            )
        arrays[f"{split}.inputs"], arrays[f"{split}.labels"] = np.ascontiguousarray(images), labels
    return arrays
