"""Fine-tuned models that others published, in place of own training: fetched, converted, checked, provenance kept."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tally.checkpoints import as_checkpoint, open_checkpoint
from tally.errors import TallyError
from tally.hub import obtain
from tally.models.layouts import Arrays, image_tower

FAR = 0.5  # of the base's norm; fine-tunings at the paper's learning rate are some hundredths away


def fetch(source: str, file: str, revision: str, base: Path, **names: str) -> tuple[Arrays, dict[str, Any]]:
    """The image tower of a published fine-tuning, float32 by open_clip's names, and its provenance.

    {name} and {model} in `source` and `file` stand for what `names` says. The file is safetensors or the pickle of a
    state dict, which is read without running it; `image_tower` knows which names it may have. Raises TallyError for
    another architecture, and for another base: one that is more than FAR of the base's norm away.
    """
    from tally.convert import load

    path, facts = obtain(filled(source, names), filled(file, names), revision)
    theta_0 = open_checkpoint(base)
    tower = image_tower(as_checkpoint(load(path), str(path)), theta_0)
    away = sum(np.square(w - theta_0.float32(name), dtype=np.float64).sum() for name, w in tower.items())
    norm = sum(np.square(theta_0.float32(name), dtype=np.float64).sum() for name in tower)
    if not away <= FAR**2 * norm:  # also NaN
        raise TallyError(
            f"{path} is not fine-tuned from {base}: it is {(away / norm) ** 0.5:.0%} of the base's norm away; take another base"
        )
    return tower, {"published": source, **facts}


def filled(pattern: str, names: Mapping[str, str]) -> str:
    for key, value in names.items():
        pattern = pattern.replace(f"{{{key}}}", value)
    return pattern


def provenance(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What `fetch` found out, from the metadata of the file it went into; None of an own training."""
    return json.loads(metadata["provenance"]) if "provenance" in metadata else None
