"""The image tower of CLIP by open_clip's names and by those of transformers' CLIPVisionModel; and which names a file has.

The two differ in names, in attention (open_clip keeps query, key and value in one matrix) and in the projection, which
transformers keeps transposed and leaves out of CLIPVisionModel, so that fine-tunings published so have the base's.
"""

import re
from collections.abc import Mapping

import numpy as np
from tally.checkpoints import Checkpoint
from tally.errors import TallyError

Arrays = dict[str, np.ndarray]

OPEN_CLIP, TRANSFORMERS = "visual.", "vision_model."
PARTS = (  # open_clip, transformers; pre_layrnorm is theirs
    ("class_embedding", "embeddings.class_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("conv1.weight", "embeddings.patch_embedding.weight"),
    ("ln_pre", "pre_layrnorm"),
    ("ln_post", "post_layernorm"),
    ("transformer.resblocks", "encoder.layers"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
)
QKV = ("q_proj", "k_proj", "v_proj")


def to_transformers(tower: Mapping[str, np.ndarray]) -> Arrays:
    """visual.* of open_clip as CLIPVisionModelWithProjection names it: vision_model.* and visual_projection.weight."""
    result: Arrays = {}
    for name, weight in tower.items():
        plain = name.removeprefix(OPEN_CLIP)
        if plain == "proj":
            result["visual_projection.weight"] = weight.T
        elif match := re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", plain):
            for part, piece in zip(QKV, np.split(weight, 3)):
                result[f"{TRANSFORMERS}{_rename(match[1])}.self_attn.{part}.{match[2]}"] = piece
        else:
            result[TRANSFORMERS + _rename(plain)] = weight
    return result


def to_open_clip(tower: Mapping[str, np.ndarray]) -> Arrays:
    """The other way round; visual.proj is there if visual_projection.weight is. Buffers (position_ids) are left out."""
    result: Arrays = {}
    for name, weight in tower.items():
        plain = name.removeprefix(TRANSFORMERS)
        if plain == "visual_projection.weight":
            result[f"{OPEN_CLIP}proj"] = weight.T
        elif match := re.fullmatch(r"(.*)\.self_attn\.q_proj\.(weight|bias)", plain):
            pieces = [name.replace("q_proj", part) for part in QKV]
            if any(piece not in tower for piece in pieces):
                raise TallyError(f"{name!r} is there without its k_proj and v_proj; fetch the checkpoint again")
            joined = np.concatenate([tower[piece] for piece in pieces])
            result[f"{OPEN_CLIP}{_rename(match[1], back=True)}.attn.in_proj_{match[2]}"] = joined
        elif not plain.endswith("position_ids") and not re.search(r"\.[kv]_proj\.", plain):
            result[OPEN_CLIP + _rename(plain, back=True)] = weight
    return result


LAYOUTS = {"open_clip": to_open_clip, "transformers": to_transformers}


def relaid(checkpoint: Checkpoint, layout: str) -> Checkpoint:
    """The image tower of a checkpoint under the names of `layout`, from those of the other; other weights are left out.

    Each weight keeps its bits. Raises TallyError where there is none, or of several dtypes.
    """
    if layout not in LAYOUTS:
        raise TallyError(f"unknown layout {layout!r}; known are {', '.join(LAYOUTS)}")
    starts = (OPEN_CLIP,) if layout == "transformers" else (TRANSFORMERS, "visual_projection.")
    names = [name for name in checkpoint.names if name.startswith(starts) and not name.endswith("position_ids")]
    kinds = {checkpoint.dtypes[name] for name in names}
    if len(kinds) != 1:
        what = (
            f"is of {', '.join(sorted(kinds))}; convert it with --dtype first"
            if kinds
            else f"has no {' or '.join(starts)}*"
        )
        raise TallyError(f"the image tower of {checkpoint.label} {what}")
    weights = LAYOUTS[layout]({name: checkpoint[name] for name in names})
    return Checkpoint(checkpoint.label, weights, dict.fromkeys(weights, kinds.pop()))


def _rename(name: str, back: bool = False) -> str:
    """Each part is a run of whole dotted words."""
    for ours, theirs in PARTS:
        old, new = (theirs, ours) if back else (ours, theirs)
        name = re.sub(rf"(?<![^.]){re.escape(old)}(?![^.])", new, name)
    return name


def image_tower(checkpoint: Checkpoint, like: Checkpoint) -> Arrays:
    """visual.* of a published checkpoint, float32 by open_clip's names, each of the shape that it has in the base `like`.

    Takes the weights of open_clip's CLIP, of the authors' ImageEncoder (model.visual.*), of an image tower alone, and of
    transformers' CLIPVisionModel and CLIPModel; where there is no projection, as in CLIPVisionModel, it is the base's.
    Raises TallyError, naming a tensor and both files, for another architecture.
    """
    tower = _tower(checkpoint, like)
    wanted = [name for name in like.names if name.startswith(OPEN_CLIP)]
    for name in wanted:
        if name not in tower:
            raise TallyError(f"{checkpoint.label} lacks {name!r} of {like.label}: it is of another architecture")
        if tower[name].shape != like.shape(name):
            both = f"{list(tower[name].shape)}, and {list(like.shape(name))} in {like.label}"
            raise TallyError(f"{checkpoint.label} is of another architecture: {name!r} is {both}")
    extra = sorted(set(tower) - set(wanted))
    if extra:
        raise TallyError(f"{checkpoint.label} has {extra[0]!r}, {like.label} has not: it is of another architecture")
    return {name: np.ascontiguousarray(tower[name]) for name in wanted}


def _tower(checkpoint: Checkpoint, like: Checkpoint) -> Arrays:
    """The image tower under open_clip's names, whatever it is called and stands in."""
    stem = "embeddings.class_embedding"
    if found := [name for name in checkpoint.names if name.endswith(stem)]:
        start = found[0].removesuffix(stem)  # vision_model., or nothing
        names = {TRANSFORMERS + name.removeprefix(start): name for name in checkpoint.names if name.startswith(start)}
        beside = f"{start.removesuffix(TRANSFORMERS)}visual_projection.weight"
        if beside in checkpoint:
            names["visual_projection.weight"] = beside
        tower = to_open_clip({new: checkpoint.float32(old) for new, old in names.items() if "position_ids" not in new})
        return {f"{OPEN_CLIP}proj": like.float32(f"{OPEN_CLIP}proj")} | tower
    stem = "conv1.weight"
    if found := [name for name in checkpoint.names if name.endswith(stem)]:
        start = found[0].removesuffix(stem)  # visual., model.visual., or nothing
        return {
            OPEN_CLIP + name.removeprefix(start): checkpoint.float32(name)
            for name in checkpoint.names
            if name.startswith(start)
        }
    raise TallyError(
        f"{checkpoint.label} has no image tower of CLIP, neither by open_clip's names nor by transformers'; it begins with"
        f" {next(iter(checkpoint.names), 'nothing')!r}"
    )
