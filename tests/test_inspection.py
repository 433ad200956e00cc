import json

import numpy as np
import pytest
from tally import inspection
from tally.bundle import open_bundle
from tally.inspection import inspect, profile
from tally.packing import compress
from tally.vectors import difference
from test_bundle import models


@pytest.mark.parametrize("chunk", [8, 1 << 18])
def test_profile_counts_votes(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(inspection, "CHUNK", chunk)
    compress(tmp_path / "b", difference(*models(tasks=4)), 0.5)
    bundle = open_bundle(tmp_path / "b")
    votes = sum(bundle.mask(task, 0, bundle.size).astype(int) for task in bundle)
    assert profile(bundle) == [float((votes == n).mean()) for n in range(5)]


def test_facts(tmp_path):
    base, tuned = models(tasks=4)
    for name, embed in (("with", True), ("without", False)):
        compress(tmp_path / name, difference(base, tuned), 0.5, embed_base=embed, made_from={"base": "x"})
        facts = json.loads(json.dumps(inspect(open_bundle(tmp_path / name))))
        size, whole = (tmp_path / name).stat().st_size, sum(w.numel() * w.element_size() for w in base.values())
        assert facts["bits"]["total"] == 8 * size == sum(v for k, v in facts["bits"].items() if k != "total")
        assert facts["bits"]["base"] == (8 * whole if embed else 0)
        assert facts["ratio"] == 4 * whole / (size if embed else size + whole)
        assert (facts["domain_weights"], facts["frozen_weights"]) == (159, 25)
        assert facts["formula_gigabits"] == pytest.approx((32 * (2 * 159 + 25) + 4 * 159) / 1e9)
        assert sum(facts["shares"].values()) == pytest.approx(1)
        assert facts["made_from"] == {"base": "x"}
        assert np.allclose(sum(facts["profile"]), 1)
