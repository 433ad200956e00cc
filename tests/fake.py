"""Consistent result files for any number of tasks, roughly the paper's numbers, to test tables and figures with."""

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
from tally.statistics import pack_hits

NAMES = [
    "cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "svhn", "sun397", "stl10", "pets", "flowers102", "cifar100",
    "pcam", "fer2013", "cifar10", "food101", "fashion-mnist", "rendered-sst2", "emnist", "kmnist",
]  # fmt: skip
FINE_TUNED = [78, 98, 99, 99, 99.7, 96, 97.5, 75, 98, 91, 90, 89, 88, 73, 98, 89, 95, 74, 99.8, 98.6]
ZERO_SHOT = [60, 44, 46, 33, 48, 61, 32, 63, 97, 87, 66, 64, 61, 39, 90, 83, 63, 59, 17, 10]
# How much of the way from zero-shot to fine-tuned a method goes.
FORMATS = {"fp32-fp32-packed": (32, 32, 1.0), "fp32-fp32-zstd": (32, 32, 0.8), "fp16-int8-zstd": (16, 8, 0.8)}
REACH = {
    "weight-average": 0.4, "task-arithmetic": 0.45, "ties": 0.52, "magnitude-pruning": 0.93, "magnitude-masking": 0.8,
    "magnitude-masking-matched": 0.86, "tall-task-arithmetic": 0.985, "tall-ties": 1.0,
}  # fmt: skip


def write(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def fake_suite(root: Path, tasks: int = 8, examples: int = 200, seed: int = 0) -> Path:
    """Write results/fake/fake-<tasks> under `root` with heads and finetuned beside it; return the suite's folder."""
    rng = np.random.default_rng(seed)
    names, model = NAMES[:tasks], root / "results" / "fake"
    folder = model / f"fake-{tasks}"
    sizes = {task: examples + 7 * i for i, task in enumerate(names)}  # not all multiples of 8
    luck = {task: rng.normal(size=sizes[task]) for task in names}  # what makes an example easy, for every candidate

    def hits(task: str, percent: float) -> np.ndarray:
        noisy = 0.9 * luck[task] + np.sqrt(1 - 0.81) * rng.normal(size=sizes[task])
        return noisy < NormalDist().inv_cdf(np.clip(percent / 100, 0.01, 0.999))

    def percents(reach: float) -> dict[str, float]:
        jitter = rng.normal(scale=0.03, size=tasks)
        return {
            task: (1 - reach - jitter[i]) * ZERO_SHOT[i] + (reach + jitter[i]) * FINE_TUNED[i]
            for i, task in enumerate(names)
        }

    for stage, values in (("heads", ZERO_SHOT), ("finetuned", FINE_TUNED)):
        for task, value in zip(names, values, strict=False):
            record = {"task": task, "val": pack_hits(hits(task, value)), "test": pack_hits(hits(task, value))}
            write(model / stage / f"{task}.json", record)

    def candidate(method: str, k: int | None, reach: float, searched: bool) -> None:
        value, alpha = percents(reach), (0.4 if searched else 1.0)
        score = float(np.clip(0.55 + 0.45 * reach, 0, 1))
        search = [{"alpha": 0.4, "normalized": score, "bound": score, "counts": {t: [1, 2] for t in names}}]
        search += [{"alpha": 0.5, "normalized": None, "bound": score / 2, "counts": {t: [0, 2] for t in names}}]
        record = {
            "model": "fake", "suite": folder.name, "method": method, "k": k, "alpha": alpha,
            "search": search if searched else [],
            "test": {task: pack_hits(hits(task, value[task])) for task in names},
        }  # fmt: skip
        write(folder / "accuracy" / f"{method if k is None else f'{method}-k{k}'}.json", record)

    for method, reach in REACH.items():
        drop = 0.12 * (tasks - 8) / 12 if reach < 0.6 else 0.0
        candidate(method, None, reach - drop, searched=method in ("task-arithmetic", "ties"))
    for k in range(1, tasks + 1):
        tail = 1 / (1 + np.exp(2 * (k - tasks / 2) / np.sqrt(tasks)))
        candidate("consensus-task-arithmetic", k, (0.62 - 0.12 * (k == 1)) * tail, True)
        candidate("consensus-ties", k, 0.5 * tail**1.5, True)
        candidate("random-consensus", k, 0.42 * tail**2, True)

    n = np.arange(tasks + 1)
    for method, width in (("task-arithmetic", 0.3), ("ties", 0.2)):
        profile = np.exp(-0.5 * ((n - 2) / (width * tasks)) ** 2) + 0.1
        chance = np.exp(-0.5 * ((n - 0.3 * tasks) / (0.12 * tasks + 0.5)) ** 2)
        if method == "ties":
            profile[-1] = 1.0
        record = {
            "method": method,
            "tasks": tasks,
            "profile": list(profile / profile.sum()),
            "chance": list(chance / chance.sum()),
        }
        write(folder / "votes" / f"{method}.json", record)
        chosen = {}
        for i, task in enumerate(names):
            steps = [
                {
                    "lambda": lam,
                    "density": 0.6 * np.exp(-1.5 * lam) + 0.01 * (i % 5),
                    "correct": 90 - step,
                    "total": 100,
                }
                for step, lam in enumerate((0.2, 0.3, 0.4, 0.5, 0.6))
            ]
            best = steps[i % 5]
            chosen[task] = {"lambda": best["lambda"], "density": best["density"], "search": steps}
        write(folder / "masks" / f"{method}.json", {"method": method, "tasks": chosen})
        exact, formats, weights = percents(REACH[f"tall-{method}"]), {}, 1000
        for name, (base, vector, mask) in FORMATS.items():
            bits = {
                "base": base * weights,
                "vector": vector * weights,
                "masks": int(mask * tasks * weights),
                "other": 800,
            }
            test = {task: pack_hits(hits(task, exact[task])) for task in names}
            formats[name] = {"bits": bits, "bytes": sum(bits.values()) // 8, "test": test}
        sizes_of = {"domain_weights": weights, "frozen_weights": 10}
        write(folder / "storage" / f"{method}.json", {"method": method, "formats": formats} | sizes_of)
    return folder
