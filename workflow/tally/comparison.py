"""Our numbers beside those that the paper printed, cell by cell."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from tally.printed import Printed
from tally.records import CONSENSUS, Suite, name_of
from tally.statistics import normalized_accuracy
from tally.tables import LABELS, storage

K = 2  # of the paper's consensus rows


def comparison(
    suite: Suite, samples: Mapping[str, np.ndarray], counts: Mapping[str, int], rows: Mapping[str, Printed]
) -> pd.DataFrame:
    """One row per cell that both have, in the order of the main table.

    samples: `statistics.bootstrap(suite.hits)`; counts: {"domain_weights": P, "frozen_weights": F}. Columns: method, k,
    quantity (absolute, normalized: percent; gigabits), ours, paper, difference (ours minus the paper's), error (standard
    error of ours over the draw of test examples: binomial, bootstrap; 0 for storage), errors (difference in standard
    errors; missing where error is 0), agrees (does ours, rounded as printed, give the same digits?).
    """
    table, fine_tuned = [], suite.accuracy("fine-tuned")
    for method in LABELS:
        k = K if method in CONSENSUS else None
        name = name_of(method, k)
        if method not in rows or name not in suite.hits:
            continue
        accuracy = suite.accuracy(name)
        found = {
            "absolute": (100 * float(np.mean(list(accuracy.values()))), 100 * binomial_error(suite, name)),
            "normalized": (100 * normalized_accuracy(accuracy, fine_tuned), 100 * float(samples[name].std())),
            "gigabits": (storage(method, counts, suite), 0.0),
        }
        for quantity, (ours, error) in found.items():
            theirs = getattr(rows[method], quantity)
            if theirs is not None:
                table.append({
                    "method": method, "k": k, "quantity": quantity, "ours": ours, "paper": theirs,
                    "difference": ours - theirs, "error": error,
                    "errors": (ours - theirs) / error if error else math.nan,
                    "agrees": agrees(ours, theirs),
                })  # fmt: skip
    columns = ["method", "k", "quantity", "ours", "paper", "difference", "error", "errors", "agrees"]
    return pd.DataFrame(table, columns=columns).astype({"k": "Int64"})


def binomial_error(suite: Suite, name: str) -> float:
    """Standard error of the mean over tasks of a candidate's accuracy, had other test examples been drawn."""
    accuracies = [(hits.mean(), len(hits)) for hits in (suite.hits[name][task] for task in suite.tasks)]
    return math.sqrt(sum(p * (1 - p) / n for p, n in accuracies)) / len(accuracies)


def agrees(ours: float, theirs: float) -> bool:
    """Whether `ours` rounds to what was printed, with as many digits: one decimal, two where the paper's number has two."""
    digits = 1 if round(theirs, 1) == theirs else 2
    return f"{ours:.{digits}f}" == f"{theirs:.{digits}f}"
