"""Task vectors tau_t = theta_t - theta_0 over the domain, read lazily and in pieces."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod

import numpy as np
from tally import blocks
from tally.checkpoints import FLOATS, Checkpoint, as_checkpoint, check_aligned
from tally.errors import TallyError
from tally.folders import model_like


@dataclass(frozen=True)
class Vectors:
    """T aligned task vectors over the domain. Flat arrays hold the weights by sorted name, each in C order."""

    tasks: tuple[str, ...]  # sorted: sums are taken in this order
    names: tuple[str, ...]  # sorted weight names
    sources: tuple[Checkpoint, ...]  # theta_t, or tau_t where base is None
    base: Checkpoint | None = None

    def __post_init__(self):
        sizes = [prod(self.sources[0].shape(name)) for name in self.names]
        object.__setattr__(self, "shapes", tuple(self.sources[0].shape(name) for name in self.names))
        object.__setattr__(self, "offsets", np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))

    @property
    def size(self) -> int:
        """P, the number of weights in the domain."""
        return int(self.offsets[-1])

    def pieces(self, lo: int, hi: int):
        """(weight name, slice of that flattened weight, slice of lo..hi) for every weight that lo..hi touches."""
        for i in range(int(np.searchsorted(self.offsets, lo, "right")) - 1, len(self.names)):
            start, stop = int(self.offsets[i]), int(self.offsets[i + 1])
            if start >= hi:
                return
            a, b = max(lo, start), min(hi, stop)
            if a < b:
                yield self.names[i], slice(a - start, b - start), slice(a - lo, b - lo)

    def fill(self, lo: int, hi: int, out: np.ndarray, differences=blocks.differences) -> None:
        """out[t] = tau_t[lo:hi] of every task, float32 (T, hi - lo). Raises TallyError at NaN or infinity."""
        with np.errstate(all="ignore"):  # NaN and overflow are told, with their place
            for name, part, here in self.pieces(lo, hi):
                base = None if self.base is None else _piece(self.base, name, part)
                if not differences([_piece(source, name, part) for source in self.sources], base, out, here.start):
                    self._blame(name, part)

    def _blame(self, name: str, part: slice):
        for source in (self.base, *self.sources):
            if source is not None:
                bad = ~np.isfinite(blocks.float32(_piece(source, name, part)))
                if bad.any():
                    place = int(part.start + np.argmax(bad))
                    raise TallyError(f"NaN or infinity in tensor {name!r} of {source.label}, at flat index {place}")
        raise TallyError(f"theta_t - theta_0 overflows float32 in tensor {name!r} of {self.base.label}")

    def task(self, t: int) -> np.ndarray:
        """tau_t as one flat float32 array (P,)."""
        out = np.empty((1, self.size), np.float32)
        replace(self, tasks=(self.tasks[t],), sources=(self.sources[t],)).fill(0, self.size, out)
        return out[0]

    def dense(self) -> np.ndarray:
        """All task vectors, float32 (T, P); for small models and tests."""
        out = np.empty((len(self.tasks), self.size), np.float32)
        self.fill(0, self.size, out)
        return out

    def split(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """A flat array (P,) of any dtype as views with the weights' names and shapes."""
        if flat.shape != (self.size,):
            raise TallyError(f"a flat array of {self.size} weights is needed, not one of shape {flat.shape}")
        return {
            name: flat[start:stop].reshape(shape)
            for name, shape, start, stop in zip(self.names, self.shapes, self.offsets, self.offsets[1:], strict=False)
        }

    def join(self, source) -> np.ndarray:
        """The flat array (P,) of a source that has all weights of the domain; floats become float32."""
        source = as_checkpoint(source)
        parts = []
        for name, shape in zip(self.names, self.shapes, strict=True):
            if source.shape(name) != shape:
                raise TallyError(f"tensor {name!r} is {list(source.shape(name))} in {source.label}, not {list(shape)}")
            array = source.float32(name) if source.dtypes[name] in FLOATS else source[name]
            parts.append(array.reshape(-1))
        return np.concatenate(parts)

    def layout(self, dtype) -> dict[str, tuple]:
        """name -> (dtype, shape), what `checkpoints.create` takes."""
        return {name: (dtype, shape) for name, shape in zip(self.names, self.shapes, strict=True)}


def _piece(source: Checkpoint, name: str, part: slice) -> np.ndarray:
    """Weights of one flattened tensor, as they are stored."""
    return source.tensors[name].reshape(-1)[part]


def open_vectors(sources: Mapping[str, object]) -> Vectors:
    """Task vectors that already exist: task -> path, Checkpoint or arrays with one float tensor per domain weight."""
    tasks, opened = _open(sources)
    check_aligned(list(opened))
    return _checked(Vectors(tasks, tuple(opened[0].names), opened))


def difference(base, finetuned: Mapping[str, object], domain="changed") -> Vectors:
    """tau_t = theta_t - theta_0 in float32, computed as it is read.

    domain: "all" floats, "changed" (floats that differ from the base in at least one checkpoint), or fnmatch patterns
    of weight names, such as ["visual.*"]. Weights outside the domain are frozen: shared with the base, never counted.
    With patterns, checkpoints may hold the domain only.
    """
    base = as_checkpoint(base, "<base>")
    tasks, opened = _open(finetuned)
    names = domain_names(base, opened, domain)
    return _checked(Vectors(tasks, tuple(names), opened, base))


def domain_names(base, finetuned, domain="changed") -> list[str]:
    """Sorted names of the weights that take part; see `difference`. finetuned: list or mapping of sources."""
    base = as_checkpoint(base, "<base>")
    finetuned = list(finetuned.values()) if isinstance(finetuned, Mapping) else finetuned
    finetuned = [as_checkpoint(source) for source in finetuned]
    floats = [name for name in base.names if base.dtypes[name][0] in "FB" and base.dtypes[name] != "BOOL"]
    if domain == "all":
        check_aligned([base, *finetuned])
        names = floats
    elif domain == "changed":
        check_aligned([base, *finetuned])
        names = [name for name in floats if any(_differs(base[name], other[name]) for other in finetuned)]
    else:
        patterns = [domain] if isinstance(domain, str) else list(domain)
        names = [name for name in floats if any(fnmatchcase(name, pattern) for pattern in patterns)]
        check_aligned([base, *finetuned], names)
    if not names:
        hint = "all checkpoints equal the base" if domain == "changed" else f"no float tensor of {base.label} matches"
        raise TallyError(f"the domain {domain!r} is empty: {hint}")
    return names


def _differs(a: np.ndarray, b: np.ndarray) -> bool:
    # Bits, not values: NaN must not pass as changed, nor -0 as equal; and early exit after the first differing chunk.
    a, b = (x.reshape(-1).view(f"u{x.itemsize}") for x in (a, b))
    return any(not np.array_equal(a[i : i + (1 << 20)], b[i : i + (1 << 20)]) for i in range(0, a.size, 1 << 20))


def _open(sources: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[Checkpoint, ...]]:
    if not sources:
        raise TallyError("no tasks given; at least one fine-tuned checkpoint or task vector is needed")
    if len(sources) > 255:
        raise TallyError(f"{len(sources)} tasks; votes are counted in bytes, so at most 255")
    tasks = tuple(sorted(sources))
    return tasks, tuple(as_checkpoint(sources[task], f"<{task}>") for task in tasks)


def _checked(vectors: Vectors) -> Vectors:
    for source in vectors.sources:
        for name in vectors.names:
            if source.dtypes[name] not in FLOATS:
                raise TallyError(f"{name!r} in {source.label} is {source.dtypes[name]}, not one of {', '.join(FLOATS)}")
    return vectors


def apply(base, merged, alpha: float = 1.0, mask: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """theta_0 + alpha * (mask o tau) for the weights of `merged`, float32, in memory. mask: flat (P,) or None for all."""
    base, merged = as_checkpoint(base, "<base>"), as_checkpoint(merged, "<merged>")
    size = sum(merged[name].size for name in merged.names)
    if mask is not None and mask.shape != (size,):
        raise TallyError(f"the mask has shape {mask.shape}, but {merged.label} has {size} weights")
    out, offset = {}, 0
    for name in merged.names:
        tau = merged.float32(name)
        if base.shape(name) != tau.shape:
            raise TallyError(
                f"tensor {name!r} is {list(tau.shape)} in {merged.label} and {list(base.shape(name))} in {base.label}"
            )
        if mask is not None:
            tau = np.where(mask[offset : offset + tau.size].reshape(tau.shape), tau, np.float32(0))
            offset += tau.size
        out[name] = base.float32(name) + np.float32(alpha) * tau
    return out


def save_model(path, base, merged, alpha: float = 1.0, mask: np.ndarray | None = None, metadata=None) -> None:
    """Write the whole model theta_0 + alpha * (mask o tau) in the base's dtypes, a tensor at a time, atomically."""
    base, merged = as_checkpoint(base, "<base>"), as_checkpoint(merged, "<merged>")
    offset = 0
    with model_like(path, base, metadata) as writer:
        for name in base.names:
            if name in merged:
                size = merged[name].size
                part = None if mask is None else mask[offset : offset + size]
                offset += size
                theta = apply(base, {name: merged.float32(name)}, alpha, part)[name]
                writer[name][...] = narrow(theta) if base.dtypes[name] == "BF16" else theta
            else:
                writer[name][...] = base[name]


def narrow(values: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 bits (uint16), rounded to nearest, ties to even; finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
