"""The model a run starts from: a folder in open_clip's layout, its tokenizer and its zero-shot heads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tally.errors import TallyError
from tally.files import read_json
from tally.models.clip import Clip, Weights, encode_text
from tally.models.words import Words
from torch import Tensor

DOMAIN = "visual."  # the weights that fine-tuning changes: the image tower


class Model(NamedTuple):
    """The parts of a model that its weights do not hold."""

    clip: Clip
    tokenize: Callable[[Sequence[str]], Tensor]  # texts to int64 (B, context)


def read_model(folder: Path) -> Model:
    """`open_clip_config.json` and `words.json` of a model folder such as resources/mini-clip."""
    for name in ("open_clip_config.json", "words.json"):
        if not (folder / name).exists():
            raise TallyError(f"{folder} holds no {name}: a model folder has it beside model.safetensors")
    config = read_json(folder / "open_clip_config.json")
    clip = Clip.from_config(config)
    words = Words.load(folder / "words.json", config["model_cfg"]["text_cfg"]["vocab_size"])

    def tokenize(texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(words.batch([words.encode(text) for text in texts], clip.context))

    return Model(clip, tokenize)


def zero_shot_head(weights: Weights, model: Model, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Frozen classifier of a task from its label texts: float32 (C, E), times the logit scale.

    Per class the mean over the templates of L2-normalised text features, normalised again (paper §4).
    `weights` are the base's, all of them; a template holds one {}.
    """
    rows = []
    with torch.inference_mode():
        for name in classes:
            features = encode_text(weights, model.clip, model.tokenize([t.format(name) for t in templates]))
            rows.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
        return torch.stack(rows) * weights["logit_scale"].exp()
