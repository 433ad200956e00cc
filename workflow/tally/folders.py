"""A model written the way its base lies on disk: one file, or a folder with the base's shards, config and tokenizer."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from tally.checkpoints import PICKLES, Checkpoint, create, open_checkpoint
from tally.errors import TallyError
from tally.files import atomic_folder

# What is not carried along: weights in any format, which are the base's, and the page that describes the base.
WEIGHTS = (".safetensors", *PICKLES, ".h5", ".msgpack", ".gguf", ".onnx", ".ot", ".npz")
CARD = "readme.md"


def is_folder(path: Path, base: Path) -> bool:
    """Whether a model like `base` becomes a folder at `path`: if the base is one, unless the name says one file."""
    return (base.is_dir() or base.name.endswith(".index.json")) and path.suffix != ".safetensors"


def check_replaceable(path: Path, base: Path) -> None:
    """Raise TallyError if a folder holds more than a model like `base` that tally wrote: no one's other files go with it."""
    beside = {file.name for file in carried(base if base.is_dir() else base.parent)}
    for file in sorted(path.iterdir()):
        shard = file.suffix == ".safetensors" and open_checkpoint(file).metadata.get("kind") == "model"
        if not (shard or (file.is_file() and file.name in beside)):
            raise TallyError(
                f"{path} holds {file.name}, which tally did not write there; move it away, or choose another output"
            )


@contextmanager
def model_like(
    path, base: Checkpoint, metadata: Mapping[str, object] | None = None
) -> Iterator[Mapping[str, np.ndarray]]:
    """Write a model with the base's names, shapes and dtypes: writable arrays by name, memory-mapped, to be filled.

    One file where the base is one or `path` ends in .safetensors. Else a folder: the base's shards and index, and what
    lies beside them, config and tokenizer; weights in other formats, hidden files and the model card stay behind.
    `path` is there when all of it is written, or not at all.
    """
    path = Path(path)
    layout = {name: (base.dtypes[name], base.shape(name)) for name in base.names}
    if not base.files or path.suffix == ".safetensors":
        with create(path, layout, "model", metadata) as writer:
            yield writer
        return
    with atomic_folder(path) as folder:
        with ExitStack() as stack:
            arrays = {}
            for file in sorted(set(base.files.values())):
                part = {name: layout[name] for name in base.names if base.files[name] == file}
                writer = stack.enter_context(create(folder / file.name, part, "model", metadata))
                arrays |= {name: writer[name] for name in part}
            yield arrays
        for beside in carried(file.parent):
            shutil.copyfile(beside, folder / beside.name)


def carried(folder: Path) -> list[Path]:
    """What a model in the folder needs beside its weights: the index of the shards, config, tokenizer, code, licence."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    other = [file for file in files if file.suffix.lower() not in WEIGHTS and file.name.lower() != CARD]
    return [f for f in other if not f.name.endswith(".index.json") or f.name.endswith(".safetensors.index.json")]
