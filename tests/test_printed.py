import json
import math

import pytest
from conftest import ROOT
from tally.comparison import agrees
from tally.errors import TallyError
from tally.models.architecture import architecture, shapes, weights_of
from tally.printed import has_table, printed
from tally.storage import gigabits
from tally.tables import LABELS

PAPER = ROOT / "resources" / "paper" / "vision.json"
TASKS = json.loads(PAPER.read_text())["tasks"]


def counts_of(model):
    config = architecture(f"{model}-quickgelu")
    domain = sum(math.prod(s) for name, s in shapes(config).items() if name.startswith("visual."))
    return {"domain_weights": domain, "frozen_weights": weights_of(config) - domain}


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-L-14"])
@pytest.mark.parametrize("size", [8, 14, 20])
def test_storage_agrees_with_the_paper_to_the_printed_digit(model, size):
    rows, _ = printed(PAPER, model, TASKS[:size])
    stored = {method: row.gigabits for method, row in rows.items() if row.gigabits is not None}
    assert len(stored) == 10  # of magnitude pruning the paper says only that it is more
    for method, theirs in stored.items():
        assert agrees(gigabits(method, **counts_of(model), tasks=size), theirs), method


def test_every_printed_row_is_a_method_here_and_plausible():
    for model in ("ViT-B-32", "ViT-B-16", "ViT-L-14"):
        for size in (8, 14, 20):
            rows, source = printed(PAPER, model, reversed(TASKS[:size]))
            assert rows.keys() <= LABELS.keys()
            assert source
            best = rows["fine-tuned"].absolute
            for row in rows.values():  # a ratio of means is near the mean of ratios: a slip of the pen is not
                if row.normalized:
                    assert abs(row.absolute / best * 100 - row.normalized) < 1.5


def test_tables_are_of_one_model_and_one_list_of_tasks():
    leaky = ["DTD-leaky" if task == "DTD" else task for task in TASKS[:8]]
    assert has_table(PAPER, "ViT-B-32", leaky)
    assert not has_table(PAPER, "ViT-B-32", TASKS[:7])
    assert not has_table(PAPER, "mini-clip", TASKS[:8])
    with pytest.raises(TallyError, match=r"no table of mini-clip with these 8 tasks; it has ViT-B-32"):
        printed(PAPER, "mini-clip", TASKS[:8])
