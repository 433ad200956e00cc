"""From pickles to safetensors, without running what a pickle says: state dicts, and the authors' published mask files.

State dicts go through torch.load(weights_only=True). The mask files are pickled dictionaries of numpy arrays, saved with
np.save or torch.save and called .npy either way (paper section 5, item 3); they go through `tally.pickles`. One array a
task: numpy.packbits of the mask over all float weights by sorted name, zeros up to a whole byte.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tally.checkpoints import FLOATS, NAMES, Checkpoint, as_checkpoint, create, open_checkpoint
from tally.errors import TallyError
from tally.files import sha256
from tally.models.layouts import relaid
from tally.pickles import Refused, unpickle
from tally.progress import bar
from tally.vectors import domain_names, narrow

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put the state dict
MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
TYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


def load(path) -> Mapping | Checkpoint:
    """The named tensors of a torch file, of a mask file, or of safetensors. Raises TallyError, runs nothing."""
    path = Path(path)
    try:
        if path.is_dir():
            return open_checkpoint(path)
        with open(path, "rb") as file:
            head = file.read(9)
            if head[:6] == b"\x93NUMPY":
                return _named(_load_npy(path, file), path)
    except OSError as error:
        raise TallyError(f"cannot read {path}: {error.strerror}") from None
    return open_checkpoint(path) if head[8:] == b"{" else _named(_load_torch(path), path)


def _load_npy(path: Path, file) -> object:
    try:
        file.seek(0)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read(file)
        if not dtype.hasobject:
            raise TallyError(f"{path} is one array without a name; a dictionary of arrays is needed")
        return unpickle(file)
    except (ValueError, pickle.UnpicklingError) as error:
        raise TallyError(f"{path} is damaged, or holds more than arrays ({error}); nothing was loaded") from None


def _load_torch(path: Path) -> object:
    import torch

    zipped = zipfile.is_zipfile(path)
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises whatever a broken or hostile file leads to
        first = " ".join(str(error).split()) or type(error).__name__
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as file:
                    return unpickle(file)
        with open(path, "rb") as file:
            value = unpickle(file)
            if value == MAGIC:  # torch before 1.6: magic number, version, and machine come before the object
                _, _, value = unpickle(file), unpickle(file), unpickle(file)
            return value
    except Refused as error:
        if str(error).startswith("__torch__."):  # as OpenAI's own CLIP files
            raise TallyError(
                f"{path} is TorchScript, a program with weights in it, which is not run here; take the weights as"
                " safetensors, such as the hub's timm/vit_base_patch32_clip_224.openai"
            ) from None
        culprit = re.search(r"GLOBAL (\S+)", first)
        if culprit and str(error).startswith("torch."):  # torch knows what makes a tensor, this module does not
            error = culprit[1]
        raise TallyError(
            f"{path} holds a whole pickled module or other objects ({error}), which only running"
            " its code can open; save model.state_dict() instead, where you trust the file"
        ) from None
    except (ValueError, OSError, zipfile.BadZipFile, pickle.UnpicklingError):
        raise TallyError(f"{path} is damaged, or no torch file ({first[:120]}); fetch it again") from None


def _named(value: object, path: Path) -> Mapping:
    """The mapping name -> array in what was loaded, out of the wrappings that training scripts put around it."""

    def tensors(value) -> bool:
        return isinstance(value, Mapping) and len(value) > 0 and all(hasattr(item, "shape") for item in value.values())

    if isinstance(value, Mapping) and not tensors(value):
        value = next((value[key] for key in WRAPPERS if tensors(value.get(key))), value)
    if not tensors(value):
        what = (
            f"has entries that are no tensors, under no {' or '.join(WRAPPERS)}" if isinstance(value, Mapping) else ""
        )
        raise TallyError(f"{path} {what or f'holds a {type(value).__name__}'}; a dictionary name -> tensor is needed")
    if not all(isinstance(name, str) for name in value):
        raise TallyError(f"{path} has names that are no strings; a dictionary name -> tensor is needed")
    wrapped = all(name.startswith("module.") for name in value)  # DistributedDataParallel's
    return {name.removeprefix("module.") if wrapped else name: item for name, item in value.items()}


def convert(old, new, dtype: str | None = None, base=None, domain="all", layout: str | None = None) -> str:
    """Write the tensors of `old` as safetensors, atomically; returns the kind: "model" or "masks".

    dtype: fp32, fp16 or bf16 for all float tensors, else each keeps its own. base: the model whose float weights a mask
    file runs over; it checks the length and, with `domain` patterns, keeps those weights' bits only. layout: open_clip or
    transformers, of a CLIP image tower that has the other's names.
    """
    if dtype is not None and dtype not in TYPES:
        raise TallyError(f"unknown dtype {dtype!r}; known are {', '.join(TYPES)}")
    source = as_checkpoint(load(old), str(old))
    facts = {} if os.path.isdir(old) else {"source_sha256": sha256(old)}
    if domain != "all" and base is None:
        raise TallyError("a domain is a part of the base's weights; give --base, or leave out --domain")
    if source.tensors and all(kind == "U8" and source[name].ndim == 1 for name, kind in source.dtypes.items()):
        if dtype is not None:
            raise TallyError(f"{old} holds masks, not weights; leave out --dtype")
        _write_masks(new, source, base, domain, facts)
        return "masks"
    if base is not None:
        raise TallyError(f"{old} holds weights, not masks; leave out --base")
    if layout is not None:
        source = relaid(source, layout)
    floats = {name for name, kind in source.dtypes.items() if kind in (*FLOATS, "F64")}
    kinds = {name: TYPES[dtype] if dtype and name in floats else source.dtypes[name] for name in source.names}
    with create(new, {name: (kinds[name], source.shape(name)) for name in source.names}, "model", facts) as writer:
        for name in bar(source.names, "convert", unit="tensor"):
            same = kinds[name] == source.dtypes[name]
            writer[name][...] = source[name] if same else _cast(source, name, kinds[name])
    return "model"


def _cast(source: Checkpoint, name: str, kind: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # told below
        wide = source[name].astype(np.float32) if source.dtypes[name] == "F64" else source.float32(name)
        out = narrow(wide) if kind == "BF16" else wide.astype({v: k for k, v in NAMES.items()}[kind], copy=False)
    if not np.isfinite(wide if kind == "BF16" else out).all():
        raise TallyError(
            f"{name!r} in {source.label} has NaN, infinity or a value too large for {kind}; keep its dtype"
        )
    return out


def _write_masks(new, source: Checkpoint, base, domain, facts: dict) -> None:
    sizes = {source[task].size for task in source.names}
    if len(sizes) > 1:
        raise TallyError(f"the masks in {source.label} have different lengths: {sorted(sizes)} bytes")
    keep = None
    if base is not None:
        base = as_checkpoint(base, "<base>")
        names = [name for name in base.names if base.dtypes[name] in (*FLOATS, "F64")]
        total = sum(base[name].size for name in names)
        if sizes != {-(-total // 8)}:
            raise TallyError(
                f"the masks in {source.label} are {sizes.pop()} bytes, {base.label} has {total} float weights and needs"
                f" {-(-total // 8)}"
            )
        chosen = set(domain_names(base, [], domain))
        keep = np.concatenate([np.full(base[name].size, name in chosen) for name in names])
        facts = facts | {"domain": {name: list(base.shape(name)) for name in sorted(chosen)}}
    length = sizes.pop() if keep is None else -(-int(keep.sum()) // 8)
    with create(new, {task: ("U8", (length,)) for task in source.names}, "masks", facts) as writer:
        for task in bar(source.names, "convert", unit="task"):
            packed = source[task]
            if keep is not None:
                bits = np.unpackbits(packed).view(bool)
                if bits[keep.size :].any():
                    raise TallyError(f"the mask of {task!r} in {source.label} has bits after its last weight")
                packed = np.packbits(bits[: keep.size][keep])
            writer[task][:] = packed
