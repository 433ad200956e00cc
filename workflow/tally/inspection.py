"""What is in a bundle: tasks, densities, votes, and the bits of each part."""

from pathlib import Path

import numpy as np
from tally.bundle import CHUNK, Bundle
from tally.masks import density
from tally.progress import bar
from tally.storage import gigabits
from tally.votes import counts, shares, votes


def profile(bundle: Bundle) -> list[float]:
    """Mask agreement profile: share of weights with n = 0..T votes; memory depends on T only."""
    total = np.zeros(len(bundle.tasks) + 1, np.int64)
    for lo in bar(range(0, bundle.size, CHUNK), "count votes", unit="chunk"):
        hi = min(lo + CHUNK, bundle.size)
        rows = [bundle.file[f"mask/{task}"][lo // 8 : -(-hi // 8)] for task in bundle.tasks]
        total += counts(votes(rows, hi - lo), len(bundle.tasks))
    return (total / bundle.size).tolist()


def inspect(bundle: Bundle) -> dict:
    """What `tally inspect --json` prints. The base is not needed.

    bits: of the parts of the file. ratio: T checkpoints like the base against the file, and the base if it is elsewhere.
    formula_gigabits: the paper's storage, 32 (2 P + F) + T P bits, which counts the base.
    """
    about, file, tasks = bundle.metadata, bundle.file, len(bundle.tasks)
    part = {"base": 0, "tau": 0, "scale": 0, "mask": 0}
    for name in file.names:
        part[name.split("/")[0]] += 8 * file[name].nbytes
    bits = {"base": part["base"], "merged vector": part["tau"] + part["scale"], "masks": part["mask"]}
    bits["header"] = 8 * Path(file.label).stat().st_size - sum(bits.values())
    bits["total"] = sum(bits.values())
    base_bits = 8 * about["base_bytes"]
    agreement = profile(bundle)
    return {
        "method": about["method"],
        "strict": about["strict"],
        "tasks": {
            task: {"lambda": about["lambdas"][task], "density": density(file[f"mask/{task}"], bundle.size)}
            for task in bundle.tasks
        },
        "domain_weights": bundle.size,
        "frozen_weights": about["frozen_weights"],
        "profile": agreement,
        "shares": shares(agreement),
        "vector_dtype": file.dtypes["tau"],
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
