"""Which weights a CLIP model has, by open_clip's names: from its config alone, without building it."""

import importlib.util
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from tally.checkpoints import Checkpoint
from tally.errors import TallyError
from tally.files import read_json

# OpenAI's, which open_clip's own configs leave out
PREPROCESS = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
Shapes = dict[str, tuple[int, ...]]


def architecture(name: str) -> dict[str, Any]:
    """open_clip's config of a name such as "ViT-B-32-quickgelu", as a model folder holds it; open_clip is not imported.

    OpenAI's weights were trained with quick_gelu: theirs are the names that end in -quickgelu.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise TallyError("open_clip is not installed, which has the architectures; pip install open_clip_torch")
    folder = Path(package.origin).with_name("model_configs")
    known = sorted(path.stem for path in folder.glob("ViT-*.json"))
    if name not in known:
        raise TallyError(f"unknown architecture {name!r}; open_clip's vision transformers are {', '.join(known)}")
    return {"model_cfg": read_json(folder / f"{name}.json"), "preprocess_cfg": PREPROCESS}


def shapes(config: dict[str, Any]) -> Shapes:
    """Names and shapes of all weights of the model of an open_clip_config.json; TallyError if it is no plain CLIP."""
    model = config.get("model_cfg", {})
    try:
        embedding, vision, text = model["embed_dim"], model["vision_cfg"], model["text_cfg"]
        W, P, T = vision["width"], vision["patch_size"], text["width"]
        result: Shapes = {
            "visual.class_embedding": (W,),
            "visual.positional_embedding": ((vision["image_size"] // P) ** 2 + 1, W),
            "visual.proj": (W, embedding),
            "visual.conv1.weight": (W, 3, P, P),
            "positional_embedding": (text["context_length"], T),
            "text_projection": (T, embedding),
            "logit_scale": (),
            "token_embedding.weight": (text["vocab_size"], T),
            **_norm("visual.ln_pre", W),
            **_norm("visual.ln_post", W),
            **_norm("ln_final", T),
        }
        for tower, width, layers in (("visual.", W, vision["layers"]), ("", T, text["layers"])):
            for layer in range(layers):
                result |= _block(f"{tower}transformer.resblocks.{layer}", width)
    except (KeyError, TypeError):
        raise TallyError("open_clip_config.json describes no CLIP of two vision and text transformers") from None
    return result


def differing(wanted: Shapes, *files: Checkpoint) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """The weights that no file has in the wanted shape: name, and the shape in the first that has it, None if none has."""
    for name, shape in wanted.items():
        found = next((file.shape(name) for file in files if name in file), None)
        if found != shape:
            yield name, found


def text_transformer(name: str) -> bool:
    """Whether a weight is of the part that makes heads and is never asked again; the authors' encoder drops it too."""
    return name.startswith("transformer.")


def weights_of(config: dict[str, Any]) -> int:
    """How many weights the base of a run has: all but the text transformer's."""
    return sum(prod(shape) for name, shape in shapes(config).items() if not text_transformer(name))


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _block(name: str, width: int) -> Shapes:
    linear = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
    result = {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
    for part, shape in linear.items():
        result |= {f"{name}.{part}.weight": shape, f"{name}.{part}.bias": shape[:1]}
    return result | _norm(f"{name}.ln_1", width) | _norm(f"{name}.ln_2", width)
