"""The numbers of the paper's tables as DataFrames, out of a suite's records; `typeset` writes them.

Accuracies are percent, differences are normalized points (percent of the fine-tuned accuracy).
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from tally.errors import TallyError
from tally.records import CONSENSUS, Suite, chosen_k, format_name, name_of, validation_score
from tally.statistics import interval, normalized_accuracy
from tally.storage import PAPER, format_parts, gigabits

# Rows in the order of the paper's main table: method, name in print. A new group starts at fine-tuned and after it.
MERGING = {
    "zero-shot": "Zero-shot",
    "weight-average": "Weight averaging",
    "task-arithmetic": "Task arithmetic",
    "ties": "TIES",
    "random-consensus": "Random consensus",
    "consensus-task-arithmetic": "Consensus TA",
    "consensus-ties": "Consensus TIES",
}
MASKS = {
    "magnitude-pruning": "Magnitude pruning",
    "magnitude-masking": "Magnitude masking",
    "magnitude-masking-matched": "Magnitude masking, TALL density",
    "tall-task-arithmetic": "TALL mask + TA",
    "tall-ties": "TALL mask + TIES",
}
LABELS = MERGING | {"fine-tuned": "Fine-tuned"} | MASKS
PAIRS = (  # candidate, what it is compared with
    ("consensus-task-arithmetic", "task-arithmetic"),
    ("consensus-ties", "ties"),
    ("consensus-task-arithmetic", "random-consensus"),
    ("tall-task-arithmetic", "magnitude-pruning"),
    ("tall-ties", "magnitude-pruning"),
)


def label_of(method: str) -> str:
    """A method in print; of a TALL method in a storage format, "TALL mask + TA, fp16-int8-zstd"."""
    if method in LABELS:
        return LABELS[method]
    plain = next(name for name in MASKS if name.startswith("tall-") and method.startswith(f"{name}-"))
    return f"{LABELS[plain]}, {method.removeprefix(plain + '-')}"


def group_of(method: str) -> int:
    """0 one merged model, 1 fine-tuned, 2 one model per task restored from masks."""
    return 0 if method in MERGING else 1 if method == "fine-tuned" else 2


def ks_of(suite: Suite, method: str) -> list[int]:
    """Every k that a consensus method was evaluated with, ascending."""
    return sorted(record["k"] for record in suite.candidates.values() if record["method"] == method)


def rows_of(suite: Suite) -> list[tuple[str, int | None]]:
    """(method, k) of everything that was evaluated, in the order of the main table."""
    rows: list[tuple[str, int | None]] = []
    for method in LABELS:
        if method in CONSENSUS:
            rows += [(method, k) for k in ks_of(suite, method)]
        elif method in suite.hits:
            rows.append((method, None))
            rows += [(format_name(method, name), None) for name in formats_of(suite, method)]
    return rows


def formats_of(suite: Suite, method: str) -> list[str]:
    """The storage formats that a TALL method was measured in, beside the paper's."""
    return [name for name in suite.storage.get(method, {"formats": {}})["formats"] if name != PAPER]


def main_table(
    suite: Suite, samples: Mapping[str, np.ndarray], counts: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """One row per method, and per k of a consensus method: accuracies and 95 % interval in percent, storage in Gb.

    samples: `statistics.bootstrap(suite.hits)`; counts: {"domain_weights": P, "frozen_weights": F}, without which the
    storage stays empty. Columns: method, k, absolute, normalized, normalized_low, normalized_high, gigabits (10^9 bits),
    chosen (is k the one chosen on validation data? empty where there is no k).
    """
    fine_tuned, best, rows = suite.accuracy("fine-tuned"), chosen_k(suite), []
    for method, k in rows_of(suite):
        accuracy = suite.accuracy(name_of(method, k))
        low, high = interval(samples[name_of(method, k)])
        rows.append({
            "method": method,
            "k": k,
            "absolute": 100 * float(np.mean(list(accuracy.values()))),
            "normalized": 100 * normalized_accuracy(accuracy, fine_tuned),
            "normalized_low": 100 * low,
            "normalized_high": 100 * high,
            "gigabits": storage(method, counts, suite),
            "chosen": None if k is None else k == best[method],
        })  # fmt: skip
    return pd.DataFrame(rows).astype({"k": "Int64", "chosen": "boolean"})


def storage(method: str, counts: Mapping[str, int] | None, suite: Suite) -> float:
    """Gigabits of a method: the paper's formula, and of a storage format the measured file."""
    for plain, record in suite.storage.items():
        if method.removeprefix(f"{plain}-") in record["formats"]:
            return 8 * record["formats"][method.removeprefix(f"{plain}-")]["bytes"] / 1e9
    return math.nan if counts is None else gigabits(method, **counts, tasks=len(suite.tasks))


def read_main(path: Path | str) -> pd.DataFrame:
    """The frame of `main_table` from its CSV; which k was chosen stands in choices.csv beside it."""
    path = Path(path)
    try:
        main = pd.read_csv(path, dtype={"k": "Int64"})
        choices = pd.read_csv(path.with_name("choices.csv"), dtype={"k": "Int64", "chosen": "boolean"})
        chosen = choices.loc[choices["k"].notna(), ["method", "k", "chosen"]]
        return main.merge(chosen, how="left", on=["method", "k"])
    except (OSError, ValueError) as error:
        raise TallyError(f"{path}: cannot be read as a main table ({error}); make it again") from error


def best_rows(main: pd.DataFrame) -> pd.DataFrame:
    """The rows of `main_table` with each consensus method at its k chosen on validation data: one row per method."""
    return main[main["chosen"].fillna(True).astype(bool)].reset_index(drop=True)


def per_task_table(suite: Suite) -> pd.DataFrame:
    """Test accuracy in percent: columns method, k, one per task; consensus methods at the k chosen on validation data."""
    chosen, rows = chosen_k(suite), []
    for method, k in rows_of(suite):
        if k is None or k == chosen[method]:
            accuracy = suite.accuracy(name_of(method, k))
            rows.append({"method": method, "k": k} | {task: 100 * value for task, value in accuracy.items()})
    return pd.DataFrame(rows).astype({"k": "Int64"})


def paired_table(suite: Suite, samples: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Methods minus what they are compared with, on the same test examples; consensus for every k.

    Columns: method, baseline, k, chosen (is k the one chosen on validation data? empty where there is no k), difference, low, high (normalized
    points, 95 % interval), wins, losses (tasks where the method is more, less accurate), tasks. The random baseline is
    taken at the same k.
    """
    fine_tuned, best, rows = suite.accuracy("fine-tuned"), chosen_k(suite), []
    for method, baseline in PAIRS:
        for k in ks_of(suite, method) if method in CONSENSUS else [None]:
            a, b = name_of(method, k), name_of(baseline, k if baseline in CONSENSUS else None)
            if not {a, b} <= suite.hits.keys():
                continue
            ours, theirs = suite.accuracy(a), suite.accuracy(b)
            low, high = interval(samples[a] - samples[b])
            rows.append({
                "method": method,
                "baseline": baseline,
                "k": k,
                "chosen": None if k is None else k == best[method],
                "difference": 100 * (normalized_accuracy(ours, fine_tuned) - normalized_accuracy(theirs, fine_tuned)),
                "low": 100 * low,
                "high": 100 * high,
                "wins": sum(ours[task] > theirs[task] for task in suite.tasks),
                "losses": sum(ours[task] < theirs[task] for task in suite.tasks),
                "tasks": len(suite.tasks),
            })  # fmt: skip
    columns = ["method", "baseline", "k", "chosen", "difference", "low", "high", "wins", "losses", "tasks"]
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64", "chosen": "boolean"})


def storage_table(suite: Suite, samples: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """TALL methods in every storage format, the paper's first.

    Columns: method, base, vector, codec; bits per domain weight and task of the file's parts, bits_base, bits_vector,
    bits_masks, bits_other (frozen weights, header), and of the whole file, bits; share (percent of the paper's bits),
    bytes; normalized, normalized_low, normalized_high (percent); difference, low, high against the paper's format on the
    same test examples (normalized points, 95 % interval).
    """
    fine_tuned, rows = suite.accuracy("fine-tuned"), []
    for method, record in suite.storage.items():
        weights = record["domain_weights"] * len(suite.tasks)
        exact = normalized_accuracy(suite.accuracy(method), fine_tuned)
        for name, found in record["formats"].items():
            candidate = method if name == PAPER else format_name(method, name)
            score = normalized_accuracy(suite.accuracy(candidate), fine_tuned)
            options, (low, high) = format_parts(name), interval(samples[candidate])
            less, more = interval(samples[candidate] - samples[method])
            rows.append({
                "method": method,
                "base": options["base_dtype"],
                "vector": options["vector_dtype"],
                "codec": options["mask_codec"],
                **{f"bits_{part}": found["bits"][part] / weights for part in ("base", "vector", "masks", "other")},
                "bits": 8 * found["bytes"] / weights,
                "share": 100 * found["bytes"] / record["formats"][PAPER]["bytes"],
                "bytes": found["bytes"],
                "normalized": 100 * score,
                "normalized_low": 100 * low,
                "normalized_high": 100 * high,
                "difference": 100 * (score - exact),
                "low": 100 * less,
                "high": 100 * more,
            })  # fmt: skip
    return pd.DataFrame(rows)


def choices_table(suite: Suite) -> pd.DataFrame:
    """What validation data chose: a row per searched candidate (its alpha) and per TALL mask (its lambda and density).

    Columns: method, k, task (empty for candidates), alpha, lambda, density (percent), validation (normalized accuracy on
    validation data, percent), chosen (k chosen on validation data; empty where there is no k).
    """
    best, rows = chosen_k(suite), []
    for method, k in rows_of(suite):
        name = name_of(method, k)
        score = validation_score(suite.candidates.get(name, {}), f"{suite.name}/{name}")
        if score is not None:
            chosen = None if k is None else k == best[method]
            alpha = suite.candidates[name]["alpha"]
            rows.append(
                {"method": method, "k": k, "task": "", "alpha": alpha, "validation": 100 * score, "chosen": chosen}
            )
    for method, record in suite.masks.items():
        for task in suite.tasks:
            mask, fine_tuned = record["tasks"][task], suite.per_task["fine-tuned"][task]["val"]
            step = next(step for step in mask["search"] if step["lambda"] == mask["lambda"])
            ratio = step["correct"] / step["total"] * fine_tuned["total"] / max(fine_tuned["correct"], 1)
            row = {"method": f"tall-{method}", "task": task, "lambda": mask["lambda"], "density": 100 * mask["density"]}
            rows.append(row | {"validation": 100 * ratio})
    columns = ["method", "k", "task", "alpha", "lambda", "density", "validation", "chosen"]
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64", "chosen": "boolean"})


def suites_table(mains: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Main tables side by side, {suite: frame of `main_table`}: columns method, choice, and for each suite "<suite> k",
    "<suite> absolute", "<suite> normalized", "<suite> gigabits".

    choice says where the k of a consensus method comes from: "validation" (it may differ between suites) or "k=2", the
    paper's.
    """
    rows = []
    for method in LABELS:
        for choice in ("validation", "k=2") if method in CONSENSUS else ("",):
            row: dict[str, object] = {"method": method, "choice": choice}
            for suite, main in mains.items():
                rows_here = main[main["method"] == method]
                match = rows_here[rows_here["k"] == 2] if choice == "k=2" else best_rows(rows_here)
                for column in ("k", "absolute", "normalized", "gigabits"):
                    row[f"{suite} {column}"] = match[column].iloc[0] if len(match) else None
            if any(row[f"{suite} absolute"] is not None for suite in mains):
                rows.append(row)
    return pd.DataFrame(rows).astype({f"{suite} k": "Int64" for suite in mains})
