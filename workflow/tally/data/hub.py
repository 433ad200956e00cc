"""Data sets of the Hugging Face hub: fetched whole into a folder, then read from there without a network."""

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tally.data.pictures import Parts
from tally.data.sources import open_picture
from tally.data.task import Hub
from tally.errors import TallyError
from tally.files import read_json, sha256, write_json

KINDS = {".parquet": "parquet", ".tar": "webdataset"}
RECORD = "source.json"  # beside the files: which commit they are of, and their hashes


@dataclass(frozen=True)
class Table:
    """Rows of a `datasets.Dataset` whose pictures are still as they were in the file."""

    rows: Any
    image: str
    label: str
    order: Sequence[int]  # label of the repository -> label of the task
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        entry = self.rows[row]
        file, label = entry[self.image], int(entry[self.label])
        if not 0 <= label < len(self.order):
            raise TallyError(f"{self.name}, row {row}: label {label}, but the task has {len(self.order)} classes")
        return open_picture(io.BytesIO(file["bytes"] or b""), f"{self.name}, row {row}"), self.order[label]


def files(hub: Hub, folder: Path) -> dict[str, list[str]]:
    """The files of each split in a folder that was fetched from the hub: sorted paths."""
    every = sorted(path for path in folder.rglob("*") if path.suffix in KINDS and hub.config in path.as_posix())
    return {part: [str(path) for path in every if _of(split, path, folder)] for part, split in _splits(hub)}


def _splits(hub: Hub) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("train", hub.train), ("test", hub.test)


def _of(split: str, path: Path, folder: Path) -> bool:
    """data/train-00000-of-00001.parquet, train/0.tar and cropped_digits/train-0.parquet are of the split train."""
    return re.search(rf"(^|/){split}[-/.]", path.relative_to(folder).as_posix()) is not None


def read(hub: Hub, folder: Path, classes: Sequence[str]) -> Parts:
    """The training and the test data of a repository in `folder`. Raises TallyError, one line."""
    try:
        import datasets
    except ImportError:
        raise TallyError(f"{folder}: the package datasets is not installed; pip install 'tally-merge[hub]'") from None
    datasets.disable_progress_bars()
    parts: Parts = {}
    for part, paths in files(hub, folder).items():
        if not paths:
            raise TallyError(f"{folder}: no parquet or tar file of its {part} data; {by_hand(hub, folder)}")
        kind, name = KINDS[Path(paths[0]).suffix], f"{hub.repository}, {part}"
        try:
            rows = datasets.load_dataset(kind, data_files={part: paths}, split=part, cache_dir=str(folder / "arrow"))
        except Exception as error:  # a file that is cut short or no parquet fails in many ways
            cause = " ".join(str(error.__cause__ or error).split())[:200]
            raise TallyError(
                f"{folder}: the {part} data cannot be read ({cause}); delete it and fetch it again"
            ) from None
        images = [column for column, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        if not images or hub.label not in rows.features:
            raise TallyError(f"{name}: no picture, or no column {hub.label!r}, among {', '.join(rows.features)}")
        names = hub.names or getattr(rows.features[hub.label], "names", None)
        parts[part] = Table(
            rows.cast_column(images[0], datasets.Image(decode=False)), images[0], hub.label,
            _order(names, classes, name), name,
        )  # fmt: skip
    return parts


def _order(names: Sequence[str] | None, classes: Sequence[str], where: str) -> list[int]:
    """For each label of the repository that of the task, by the names of the classes; by position where it names none."""

    def bare(name: str) -> str:
        return re.sub(r"[\W_]", "", name.lower())

    if names is None:
        return list(range(len(classes)))
    if len(names) != len(classes):
        raise TallyError(f"{where}: {len(names)} classes, but the task has {len(classes)}; is it another data set?")
    place, found = {bare(name): label for label, name in enumerate(classes)}, set(map(bare, names))
    if strange := [name for name in classes if bare(name) not in found]:
        raise TallyError(
            f"{where}: none of its classes is called {strange[0]!r}; is it another data set? If not, list what its labels "
            "mean as `names` of the row's Hub"
        )
    return [place[bare(name)] for name in names]


def by_hand(hub: Hub, folder: Path) -> str:
    """What to do without a network."""
    return f"copy the files {hub.train}* and {hub.test}* of the data set repository {hub.repository} into {folder}"


def download(hub: Hub, folder: Path) -> None:
    """Fetch a repository's files of both splits. Files that are there stay; a connection that breaks is taken up again.

    Which commit they are of is written to source.json, with their hashes, and a later call takes that commit again.
    """
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError:
        raise TallyError("the package datasets is not installed; pip install 'tally-merge[hub]'") from None
    record = folder / RECORD
    revision = hub.revision or (read_json(record)["revision"] if record.exists() else None)
    try:
        facts = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).dataset_info(
            hub.repository, revision=revision, files_metadata=True
        )
        sizes = {file.rfilename: file for file in facts.siblings or []}
        wanted = [
            name for name in sizes
            if Path(name).suffix in KINDS and hub.config in name
            and any(_of(split, folder / name, folder) for _, split in _splits(hub))
        ]  # fmt: skip
        if not wanted:
            raise TallyError(f"{hub.repository} has no parquet or tar files called {hub.train}* and {hub.test}*")
        snapshot_download(
            hub.repository, repo_type="dataset", revision=facts.sha, local_dir=folder, allow_patterns=wanted,
            endpoint=os.environ.get("HF_ENDPOINT"),
        )  # fmt: skip
    except TallyError:
        raise
    except Exception as error:  # the network, the hub and the disk fail in many ways
        first = " ".join(str(error).split())[:160] or type(error).__name__
        raise TallyError(
            f"the hub cannot be reached ({type(error).__name__}: {first}); {by_hand(hub, folder)}"
        ) from None
    hashes = {name: sha256(folder / name) for name in sorted(wanted)}
    for name, found in hashes.items():
        known = sizes[name].lfs
        if known is not None and known.sha256 != found:
            raise TallyError(
                f"{folder / name}: not the file of the hub, its sha256 differs; delete it and fetch it again"
            )
    write_json(record, {"repository": hub.repository, "revision": facts.sha, "sha256": hashes})
