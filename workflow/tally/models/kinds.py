"""What a model folder is told by: its config file. Needs no torch, so that the workflow can ask."""

from pathlib import Path
from typing import NamedTuple

from tally.checkpoints import Checkpoint, open_checkpoint
from tally.errors import TallyError
from tally.files import read_json
from tally.models.architecture import differing, shapes


class Kind(NamedTuple):
    """A kind of model folder. Beside its model.safetensors lies a config, and a tokenizer if data are made with one."""

    reads: str  # images, texts or questions
    config: str
    tokenizer: str
    encoder: tuple[str, ...]  # modules below `tally` that compute its features
    words: tuple[str, ...] = ()  # and those that read the label texts of a head
    embedding: str = ""  # the weights that have a row for each id of the tokenizer


CLIP = Kind("images", "open_clip_config.json", "", ("models/clip",), ("models/words",))
BERT = Kind(
    "texts", "config.json", "tokenizer.json", ("models/bert",), ("models/tokens",), "embeddings.word_embeddings.weight"
)
T5 = Kind("questions", "config.json", "tokenizer.json", ("models/t5",), embedding="shared.weight")
ARCHITECTURES = {"bert": BERT, "t5": T5}  # `model_type` in a config of transformers
COUNTED = ("embeddings.position_ids",)  # 0, 1, 2 and so on, which older transformers stored beside BERT's weights
ADAPTER = "ia3."  # how the names of an adapter's weights begin, (IA)^3's, Liu et al. 2022
# what a T5 may store under several names
COPIES = dict.fromkeys(
    ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"
)


def kind_of(folder: Path) -> Kind:
    """The kind of a folder such as resources/mini-clip. Raises TallyError where a file is missing or no kind known."""
    if (folder / CLIP.config).exists():
        return CLIP
    if not (folder / T5.config).exists():
        raise TallyError(f"{folder} holds no {CLIP.config}: a model folder has it beside model.safetensors")
    architecture = read_json(folder / T5.config).get("model_type")
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise TallyError(
            f"{folder / T5.config}: model_type '{architecture}' is not known; take a model of type {known}"
        )
    kind = ARCHITECTURES[architecture]
    if not (folder / kind.tokenizer).exists():
        raise TallyError(f"{folder} holds no {kind.tokenizer}: a model folder has it beside model.safetensors")
    return kind


def check_weights(model: Checkpoint, kind: Kind, folder: Path) -> None:
    """Raise TallyError where a model has not the weights that its folder's config says: all of a CLIP, the embeddings of tokens."""
    if kind is CLIP:
        _check_clip(model, folder)
    if not kind.embedding:
        return
    rows, vocabulary = model.shape(kind.embedding)[0], read_json(folder / kind.config)["vocab_size"]
    if rows != vocabulary:
        raise TallyError(
            f"{model.label}: {kind.embedding} has {rows} rows, but {kind.config} says {vocabulary} tokens; copy the model's folder again"
        )


def _check_clip(model: Checkpoint, folder: Path) -> None:
    text = [open_checkpoint(path) for path in [folder / "text.safetensors"] if path.exists()]
    wanted = shapes(read_json(folder / CLIP.config))
    for name, found in differing(wanted, model, *text):
        what = "is missing" if found is None else f"is {list(found)}"
        raise TallyError(
            f"{model.label}: {name!r} {what}, which {CLIP.config} says is {list(wanted[name])}; the weights must have open_clip's names"
        )


def once(model: Checkpoint, kind: Kind) -> list[str]:
    """The names of a model's weights without those that repeat another one, nor what is no weight."""
    names = [name for name in model.names if name not in COUNTED]
    for copy, of in COPIES.items() if kind is T5 else ():
        if copy in model and of in model and model[copy].tobytes() == model[of].tobytes():
            names.remove(copy)
    return names


def adapter(model: Checkpoint, kind: Kind) -> dict[str, tuple[int, ...]]:
    """Names and shapes of (IA)^3's vectors: of every key, value and feed-forward layer of a T5. All ones do nothing."""
    if kind is not T5:
        raise TallyError(f"{model.label}: an adapter can be trained on a T5 alone; leave finetune.adapter at none")
    vectors = {}
    for name in model.names:
        layer, _, part = name.removesuffix(".weight").rpartition(".")
        if layer.endswith("Attention") and part in ("k", "v"):
            vectors[f"{ADAPTER}{layer}.{part}"] = model.shape(name)[:1]
        elif layer.endswith("DenseReluDense") and part == "wo":
            vectors[f"{ADAPTER}{layer}.ff"] = model.shape(name)[1:]
    return vectors
