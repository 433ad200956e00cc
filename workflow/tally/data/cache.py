"""Published pictures to one prepared file: decoded and resized once, in several processes, gone on with after a kill.

The file is a memory map that is never read whole: uint8 pictures of each split beside their labels and the sha256 of each
picture as it was published (its size and its RGB bytes, before it is resized), which is also the mark that it is done.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tally.checkpoints import open_checkpoint
from tally.data.decoding import SPLITS, decode, plan
from tally.data.published import open_published
from tally.data.splits import check_labels, hashes
from tally.data.task import Published, Task, fingerprint
from tally.errors import TallyError
from tally.files import atomic_file
from tally.partial import resume

LEAK = (
    0.1  # share of the test pictures in another split from which on the split is wrong; published ones may share a few
)


def cache(
    row: Task, resolution: int, *, data: Path, output: Path, form: str = "auto", processes: int = 1
) -> Mapping[str, int]:
    """Write the prepared file of a published task: `<split>.inputs` uint8 (N, 3, R, R), `.labels` int64, `.sha256` uint8 (N, 32).

    Killed, the next call goes on where it was. Raises TallyError for a missing or wrong data set, a picture that cannot
    be read, a label beyond the classes, a class without pictures, and test pictures that the other splits hold too.
    Returns how many pictures two splits share.
    """
    found, parts = open_published(row, data, form)
    places = plan(parts, row.validation)
    counts = {split: int(sum((p.split == i).sum() for p in places.values())) for i, split in enumerate(SPLITS)}
    layout: dict[str, tuple] = {}
    for split, n in counts.items():
        layout |= {
            f"{split}.inputs": ("U8", (n, 3, resolution, resolution)),
            f"{split}.labels": ("I64", (n,)),
            f"{split}.sha256": ("U8", (n, 32)),
        }
    facts = {"task": row.name, "classes": list(row.classes), "row": fingerprint(row), "source": found}
    with resume(output, layout, "data", facts) as writer:
        for done in decode(parts, places, resolution, writer, processes, f"decode {row.name}"):
            if done.errors:
                raise TallyError(f"{row.name}: {done.errors[0]}")
        check_labels(row.name, row.classes, {split: writer[f"{split}.labels"] for split in SPLITS})
        shared = overlaps({split: writer[f"{split}.sha256"] for split in SPLITS})
        _check_leak(row, shared, counts["test"])
    return shared


def overlaps(digests: Mapping[str, np.ndarray]) -> dict[str, int]:
    """How many pictures of the second split the first one holds too: "train val", "train test" and "val test".

    `digests`: sha256 of each picture, uint8 (N, 32).
    """
    whole = {split: np.ascontiguousarray(own).view("V32")[:, 0] for split, own in digests.items()}
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    seen: dict[str, Callable] = {split: set(own.tolist()).__contains__ for split, own in whole.items()}
    return {f"{one} {other}": sum(map(seen[one], whole[other].tolist())) for one, other in pairs}


def _check_leak(row: Task, shared: Mapping[str, int], tests: int) -> None:
    """Published data sets hold some pictures twice, which are kept as the paper kept them; a split that leaks is refused."""
    assert isinstance(row.source, Published)
    leaked = max(shared["train test"], shared["val test"])
    if leaked > LEAK * tests and not row.source.leaky:
        raise TallyError(
            f"{row.name}: {leaked} of {tests} test pictures are in the training data too; the split is wrong"
        )
    if any(shared.values()):
        words = ", ".join(f"{n} in {pair.replace(' ', ' and ')}" for pair, n in shared.items() if n)
        print(f"{row.name}: equal pictures, kept as published: {words}", file=sys.stderr)


def manifest(prepared: Path, path: Path) -> None:
    """Write one line per picture of a prepared file, in its order: split, label, sha256.

    The sha256 is of the published picture where the file holds it, else of the prepared one.
    """
    file = open_checkpoint(prepared)
    with atomic_file(path) as temporary, open(temporary, "w") as lines:
        lines.write("split\tlabel\tsha256\n")
        for split in SPLITS:
            own = f"{split}.sha256"
            digests = map(bytes, file[own]) if own in file else hashes(file[f"{split}.inputs"])
            for label, digest in zip(file[f"{split}.labels"].tolist(), digests):
                lines.write(f"{split}\t{label}\t{digest.hex()}\n")
