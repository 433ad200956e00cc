"""The folder of a base model out of open_clip's weights: fetched from the hub, converted from a file, or random."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tally.checkpoints import Checkpoint, as_checkpoint, save
from tally.errors import TallyError
from tally.files import write_json
from tally.models.architecture import differing, shapes, text_transformer


def fetch(source: str, file: str, revision: str) -> tuple[Checkpoint, dict[str, Any]]:
    """Weights by open_clip's names, of a repository of the hub or a path of this machine, and their provenance.

    A safetensors file or the pickle of a state dict, which is read without running it. OpenAI's own .pt files are
    TorchScript, programs that hold weights: those are refused, the hub has the same weights as safetensors.
    """
    from tally.convert import load
    from tally.hub import obtain

    path, provenance = obtain(source, file, revision)
    return as_checkpoint(load(path), str(path)), provenance


def random(config: Path, seed: int) -> tuple[Checkpoint, dict[str, Any]]:
    """Weights as open_clip initialises them: a model that knows nothing, for rehearsals of a run."""
    from tally.pretrain import initial_weights

    return as_checkpoint(initial_weights(config, seed), "random weights"), {"source": "random", "seed": seed}


def write_model(folder: Path, config: Mapping[str, Any], weights: Checkpoint, provenance: Mapping[str, Any]) -> None:
    """Write text.safetensors, what only heads are made with, and model.safetensors, what is merged, stored and evaluated.

    The second is what the authors' image encoder holds, so that a base has as many weights as in the paper. Raises
    TallyError if the weights are not of the architecture that `config` describes.
    """
    wanted = shapes(dict(config))
    for name, found in differing(wanted, weights):
        if found is None:
            raise TallyError(
                f"{weights.label} lacks {name!r}: it is no whole CLIP of this architecture by open_clip's names"
            )
        shapes_of_both = f"{list(found)} instead of {list(wanted[name])}"
        raise TallyError(f"{weights.label} is of another architecture: {name!r} is {shapes_of_both}")
    for file, text in (("text.safetensors", True), ("model.safetensors", False)):
        part = [name for name in wanted if text_transformer(name) == text]
        held = Checkpoint(weights.label, {n: weights[n] for n in part}, {n: weights.dtypes[n] for n in part})
        save(folder / file, held, "base", {"provenance": dict(provenance)})


def write_config(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write open_clip_config.json."""
    path = folder / "open_clip_config.json"
    write_json(path, dict(config))
    return path
