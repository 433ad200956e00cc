"""From a row of the task table to arrays that training and evaluation read."""

from pathlib import Path

import numpy as np
from tally.data.splits import check_labels, disjoint, with_validation
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
    check_labels(task.name, task.classes, {split: labels for split, (_, labels) in splits.items()})
    arrays = {}
    for split, (images, labels) in splits.items():
        arrays[f"{split}.inputs"], arrays[f"{split}.labels"] = np.ascontiguousarray(images), labels
    return arrays
