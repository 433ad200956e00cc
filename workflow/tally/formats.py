"""What a bundle's storage format costs and keeps: the bits of real files, and what the models out of them get right.

A format is named by the dtype of the base, the dtype of the merged vector and the codec of the masks: "fp16-int8-zstd".
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tally.blocks import float32
from tally.bundle import Bundle, fingerprint, open_bundle
from tally.evaluate import Bench, Examiner
from tally.inspection import parts
from tally.progress import bar, timed
from tally.statistics import pack_hits
from tally.storage import PAPER, format_parts


def compare(formats: Iterable[str], pack: Callable[..., None], examiner: Examiner, bench: Bench,
            exact: Mapping[str, Mapping]) -> dict[str, Any]:  # fmt: skip
    """Per format, the paper's first: {"bits": of the parts, "bytes": of the file, "test": {task: record}}.

    pack(path, base_dtype=, vector_dtype=, mask_codec=) writes the bundle. exact: test records of the paper's format.
    Weights that are those of an earlier format to the bit are not examined again.
    """
    known: dict[tuple[str, str], Mapping] = {}
    found = {}
    with TemporaryDirectory() as folder:
        for name in bar(dict.fromkeys([PAPER, *formats]), "storage formats", unit="format"):
            path = Path(folder) / name
            pack(path, **format_parts(name))
            bundle, test = open_bundle(path), {}
            for task in bundle:
                weights = restored(bundle, task)
                key = task, fingerprint(weights)
                if name == PAPER:
                    known[key] = exact[task]
                elif key not in known:
                    with timed("evaluation"):
                        hits = examiner.hits(examiner.cast(weights), bench.heads[task], bench.test[task])
                    known[key] = pack_hits(hits)
                test[task] = known[key]
            found[name] = {"bits": split_bits(bundle), "bytes": path.stat().st_size, "test": test}
            path.unlink()
    return found


def restored(bundle: Bundle, task: str) -> dict[str, np.ndarray]:
    """theta_t over the domain, float32."""
    return {name: float32(bundle.weight(task, name)) for name in bundle.shapes}


def split_bits(bundle: Bundle) -> dict[str, int]:
    """Bits of the domain's base, merged vector and masks, and of all else: frozen weights and the header."""
    bits = parts(bundle)
    base = sum(8 * bundle.file[f"base/{name}"].nbytes for name in bundle.shapes)
    other = bits["base"] - base + bits["header"]
    return {"base": base, "vector": bits["merged vector"], "masks": bits["masks"], "other": other}
