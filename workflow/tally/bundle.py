"""One file for T models: tau_mtl, one bit a weight and task, and the base or its hash (paper section 1).

theta_t = theta_0 + m_t o tau_mtl over the domain, theta_0 elsewhere. The file is a safetensors file:

    tau          float32 (P,)            tau_mtl, weights by sorted name, each in C order; see tally.encoding for others
    mask/<task>  uint8 (ceil(P / 8),)    m_t in numpy.packbits order; see tally.codec for zstd
    base/<name>  as in the base          every weight of the base, if it is embedded

and metadata; docs/bundle.md describes all of it. `tally.packing` writes it, this module reads it. Nothing here needs
torch, except what hands out torch tensors.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from weakref import WeakKeyDictionary

import numpy as np
from tally.blocks import float32
from tally.checkpoints import FLOATS, FORMAT, TORCH, Checkpoint, as_checkpoint, open_checkpoint
from tally.codec import CODECS, Frames
from tally.encoding import VECTOR, Restored, dequantize, rounded, rows
from tally.errors import TallyError
from tally.folders import model_like
from tally.progress import bar

CHUNK = 1 << 18  # weights in hand at once: fits the cache; a multiple of 8. Memory depends on it and not on P


def fingerprint(base) -> str:
    """sha256 over a checkpoint's names, dtypes, shapes and values: the same for one file and for its shards."""
    base, digest = as_checkpoint(base, "<base>"), hashlib.sha256()
    for name in bar(base.names, "hash the weights", unit="tensor"):
        digest.update(json.dumps([name, base.dtypes[name], list(base.shape(name))]).encode())
        digest.update(np.ascontiguousarray(base[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def moved(theta: np.ndarray, dtype: str, delta: np.ndarray) -> np.ndarray:
    """theta + delta in theta's stored dtype, the sum in float32. Raises TallyError if it is not finite."""
    with np.errstate(over="ignore"):  # told in `rounded`
        return rounded(float32(theta) + delta, dtype)


def masked(tau: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """tau where the bit is set, else -0.0, which added to anything (and so to -0.0) leaves its bits as they are.

    On the bits of float32, since np.where and masked additions stumble over random masks: 20 times slower.
    """
    every = np.negative(bits.view(np.int8), dtype=np.int32)  # 0 or all ones
    return ((tau.view(np.int32) & every) | (~every & np.int32(-(2**31)))).view(np.float32)


def open_bundle(path, base=None) -> "Bundle":
    """Open a bundle; nothing but its header is read, and the base's hash if `base` (path or state dict) is given.

    Without a base that the file does not hold, its tasks, masks and metadata can be read, but no task's weights.
    Raises TallyError for what is no bundle, and for a base with another hash.

    >>> bundle = open_bundle("tasks.safetensors", base="base.safetensors")  # doctest: +SKIP
    >>> model.load_state_dict(bundle["mnist"])  # doctest: +SKIP
    """
    file = open_checkpoint(path)
    if file.metadata.get("kind") != "bundle" or file.metadata.get("tally_format") != FORMAT:
        kind = file.metadata.get("kind", "other")
        raise TallyError(f"{path} is no bundle of format {FORMAT} but of kind {kind!r}; `tally compress` makes bundles")
    return Bundle(file, None if base is None else as_checkpoint(base, "<base>"))


class Bundle(Mapping):
    """Task name -> state dict, whose torch tensors are made when they are asked for. See `open_bundle`."""

    def __init__(self, file: Checkpoint, base: Checkpoint | None = None):
        self.file = file
        try:
            keys = ("tasks", "lambdas", "domain", "strict", "base_bytes", "frozen_weights", "made_from")
            self.metadata = {key: json.loads(file.metadata[key]) for key in keys}
            self.metadata |= {key: file.metadata[key] for key in ("method", "base_sha256")}
            self.metadata["base_dtypes"] = json.loads(file.metadata.get("base_dtypes", "{}"))
            self.metadata["densities"] = json.loads(file.metadata.get("densities", "null"))  # not in older files
            self.metadata["mask_codec"] = CODECS[file.metadata.get("mask_codec", "packed")]
            self.tasks = tuple(self.metadata["tasks"])
            self.shapes = {name: tuple(shape) for name, shape in sorted(self.metadata["domain"].items())}
            sizes = [prod(shape) for shape in self.shapes.values()]
            ends = np.cumsum([0, *sizes]).tolist()
            self.places = dict(zip(self.shapes, pairwise(ends), strict=True))  # name -> where it is in the flat domain
            self.size = ends[-1]
            whole = file.shape("tau") == (self.size,) and file.dtypes["tau"] in VECTOR.values()
            if file.dtypes["tau"] == "I8":
                self.scales = np.cumsum([0, *map(rows, self.shapes.values())]).tolist()  # where each weight's begin
                whole &= (file.shape("scale"), file.dtypes["scale"]) == ((self.scales[-1],), "F32")
                self.scales = dict(zip(self.shapes, pairwise(self.scales), strict=True))
            if (shares := self.metadata["densities"]) is not None:
                whole &= sorted(shares) == list(self.tasks) and all(0 <= share <= 1 for share in shares.values())
            zstd = self.metadata["mask_codec"] == "zstd"
            self._frames = Frames(file, self.tasks, self.size) if zstd else None
            for mask in (f"mask/{task}" for task in self.tasks):
                whole &= zstd or (file.shape(mask), file.dtypes[mask]) == ((-(-self.size // 8),), "U8")
            whole &= not zstd or self._frames.fit()
            stored = {name[5:]: dtype for name, dtype in file.dtypes.items() if name.startswith("base/")}
            self.embedded, cast = bool(stored), self.metadata["base_dtypes"]
            if stored:
                whole &= all(file.shape(f"base/{name}") == shape for name, shape in self.shapes.items())
                whole &= all(name in stored and dtype in FLOATS for name, dtype in cast.items())
        except (KeyError, ValueError, TypeError, AttributeError, TallyError):
            whole = False
        if not whole:
            raise TallyError(f"{file.label} is a damaged bundle: header and tensors disagree; make or fetch it again")
        if base is not None and fingerprint(base) != self.metadata["base_sha256"]:
            raise TallyError(f"{base.label} is not the base that {file.label} was made from (its sha256 differs)")
        if base is None and stored:
            base = Checkpoint(file.label, Restored(file, stored | cast), stored | cast)
        self._base, self._held = base, WeakKeyDictionary()

    @property
    def base(self) -> Checkpoint:
        """theta_0. Raises TallyError if it is neither in the file nor given."""
        if self._base is None:
            raise TallyError(
                f"{self.file.label} does not hold its base; give it: --base, or open_bundle(path, base=...); without it"
                " only tasks and masks can be read"
            )
        return self._base

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, task: str) -> "StateDict":
        return StateDict(self, self.check(task), self.base)

    def __contains__(self, task: object) -> bool:
        return task in self.tasks

    def check(self, task: str) -> str:
        """The task itself; raises TallyError (a KeyError to a mapping's users) if it is not in the bundle."""
        if task not in self.tasks:
            raise UnknownTask(f"no task {task!r} in {self.file.label}; it has {', '.join(self.tasks)}")
        return task

    def mask(self, task: str, lo: int, hi: int) -> np.ndarray:
        """m_t[lo:hi] of the flat domain, bool."""
        packed = self.packed(task, lo - lo % 8, hi)
        return np.unpackbits(packed, count=hi - lo + lo % 8)[lo % 8 :].view(bool)

    def packed(self, task: str, lo: int, hi: int) -> np.ndarray:
        """m_t[lo:hi] of the flat domain in numpy.packbits order, uint8; lo is a multiple of 8."""
        if self._frames is not None:
            return self._frames.packed(task, lo, hi)
        return self.file[f"mask/{task}"][lo // 8 : -(-hi // 8)]

    def tau(self, name: str, lo: int, hi: int) -> np.ndarray:
        """tau_mtl[lo:hi] of the flat domain, within one weight, float32."""
        stored, dtype = self.file["tau"][lo:hi], self.file.dtypes["tau"]
        if dtype != "I8":
            return float32(stored)
        scales = self.file["scale"][slice(*self.scales[name])]
        return dequantize(stored, scales, self.shapes[name], lo - self.places[name][0])

    def weight(self, task: str, name: str, out: np.ndarray | None = None) -> np.ndarray:
        """One weight of theta_t, in the base's shape and stored dtype (BF16: uint16 bits); into `out` if given."""
        theta = self.base[name]
        out = np.empty_like(theta) if out is None else out
        if name not in self.places:
            out[...] = theta
            return out
        start, stop = self.places[name]
        flat, source = out.reshape(-1), theta.reshape(-1)
        for lo in range(start, stop, CHUNK):
            hi = min(lo + CHUNK, stop)
            delta = masked(self.tau(name, lo, hi), self.mask(task, lo, hi))
            flat[lo - start : hi - start] = moved(source[lo - start : hi - start], self.base.dtypes[name], delta)
        return out

    def restore(self, task: str, path) -> None:
        """Write theta_t with the base's names, shapes and dtypes, one file or a folder as the base is, atomically."""
        base, facts = self.base, {"task": self.check(task), "lambda": self.metadata["lambdas"][task]}
        facts |= {key: self.metadata[key] for key in ("method", "base_sha256")}
        with model_like(path, base, facts) as writer:
            for name in bar(base.names, f"restore {task}", unit="tensor"):
                self.weight(task, name, writer[name])

    def switch(self, model, task: str) -> None:
        """Turn a loaded torch model into task t, in place. The second time, only weights whose mask differs are touched.

        Whatever else changed the model in between is noticed by torch's version counters: then all is written again.
        Raises TallyError if the model lacks a weight of the domain or has another shape.
        """
        from tally.switching import switch

        self._held[model] = switch(self, model, self.check(task), self._held.get(model))


class UnknownTask(TallyError, KeyError):
    """No such task in the bundle."""

    __str__ = TallyError.__str__


class StateDict(Mapping):
    """theta_t: name -> torch tensor in the base's dtype, made anew at each access."""

    def __init__(self, bundle: Bundle, task: str, base: Checkpoint):
        self.bundle, self.task, self.base = bundle, task, base

    def __iter__(self) -> Iterator[str]:
        return iter(self.base.names)

    def __len__(self) -> int:
        return len(self.base.tensors)

    def __getitem__(self, name: str):
        if name not in self.base:
            raise KeyError(name)
        return as_torch(self.bundle.weight(self.task, name), self.base.dtypes[name])


def as_torch(array: np.ndarray, dtype: str):
    """A torch tensor on the same memory; dtype: safetensors' name, for the types that numpy lacks."""
    import torch

    if dtype not in TORCH:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(f"i{array.itemsize}")).view(getattr(torch, TORCH[dtype]))
