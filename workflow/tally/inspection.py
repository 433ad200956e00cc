"""What is in a bundle: tasks, densities, votes, and the bits of each part."""

from pathlib import Path

import numpy as np
from tally.bundle import CHUNK, Bundle
from tally.masks import count
from tally.progress import bar
from tally.storage import gigabits
from tally.votes import counts, shares, votes


def agreement(bundle: Bundle) -> list[float]:
    """Mask agreement profile: share of weights with n = 0..T votes; memory depends on T only."""
    total = np.zeros(len(bundle.tasks) + 1, np.int64)
    for lo in bar(range(0, bundle.size, CHUNK), "count votes", unit="chunk"):
        hi = min(lo + CHUNK, bundle.size)
        total += counts(votes([bundle.packed(task, lo, hi) for task in bundle.tasks], hi - lo), len(bundle.tasks))
    return (total / bundle.size).tolist()


def densities(bundle: Bundle) -> dict[str, float]:
    """Share of the domain that each task's mask keeps: the file tells, or, if it is an older one, its masks."""
    stored, size = bundle.metadata["densities"], bundle.size
    return stored or {
        task: sum(count(bundle.packed(task, lo, min(lo + CHUNK, size))) for lo in range(0, size, CHUNK)) / size
        for task in bundle.tasks
    }


def parts(bundle: Bundle) -> dict[str, int]:
    """Bits of the parts of the file: base, merged vector, masks, header; they add up to the file's."""
    part = {"base": 0, "tau": 0, "scale": 0, "mask": 0, "frames": 0}
    for name in bundle.file.names:
        part[name.split("/")[0]] += 8 * bundle.file[name].nbytes
    bits = {
        "base": part["base"],
        "merged vector": part["tau"] + part["scale"],
        "masks": part["mask"] + part["frames"],
    }
    return bits | {"header": 8 * Path(bundle.file.label).stat().st_size - sum(bits.values())}


def inspect(bundle: Bundle) -> dict:
    """What `tally inspect --json` prints. The base is not needed.

    bits: of the parts of the file. ratio: T checkpoints like the base against the file, and the base if it is elsewhere.
    formula_gigabits: the paper's storage, 32 (2 P + F) + T P bits, which counts the base.
    """
    about, file, tasks = bundle.metadata, bundle.file, len(bundle.tasks)
    bits = parts(bundle)
    bits["total"] = sum(bits.values())
    base_bits = 8 * about["base_bytes"]
    profile, density = agreement(bundle), densities(bundle)
    return {
        "method": about["method"],
        "strict": about["strict"],
        "tasks": {task: {"lambda": about["lambdas"][task], "density": density[task]} for task in bundle.tasks},
        "domain_weights": bundle.size,
        "frozen_weights": about["frozen_weights"],
        "profile": profile,
        "shares": shares(profile),
        "vector_dtype": file.dtypes["tau"],
        "mask_codec": about["mask_codec"],
        "base_dtypes": sorted({file.dtypes[name] for name in file.names if name.startswith("base/")}),
        "bits": bits,
        "bits_per_weight_and_task": bits["total"] / bundle.size / tasks,
        "formula_gigabits": gigabits(
            "tall-task-arithmetic", domain_weights=bundle.size, frozen_weights=about["frozen_weights"], tasks=tasks
        ),
        "base_embedded": bundle.embedded,
        "base_bytes": about["base_bytes"],
        "base_sha256": about["base_sha256"],
        "ratio": tasks * base_bits / (bits["total"] + (0 if bundle.embedded else base_bits)),
        "made_from": about["made_from"],
    }
