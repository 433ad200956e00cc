import json

import numpy as np
import pytest
from tally import inspection
from tally.bundle import open_bundle
from tally.inspection import agreement, densities, inspect
from tally.packing import compress
from tally.vectors import difference
from test_bundle import models


@pytest.mark.parametrize("chunk", [8, 1 << 18])
@pytest.mark.parametrize("codec", ["packed", "zstd"])
def test_votes_and_densities_are_counted(tmp_path, monkeypatch, chunk, codec):
    monkeypatch.setattr(inspection, "CHUNK", chunk)
    compress(tmp_path / "b", difference(*models(tasks=4)), 0.5, mask_codec=codec)
    bundle = open_bundle(tmp_path / "b")
    masks = {task: bundle.mask(task, 0, bundle.size) for task in bundle}
    votes = sum(mask.astype(int) for mask in masks.values())
    assert agreement(bundle) == [float((votes == n).mean()) for n in range(5)]
    kept = {task: mask.mean() for task, mask in masks.items()}
    assert densities(bundle) == bundle.metadata["densities"] == kept
    bundle.metadata["densities"] = None  # as it is of a file that was made before they were stored
    assert densities(bundle) == kept


def test_facts(tmp_path):
    base, tuned = models(tasks=4)
    for name, embed, codec in (("with", True, "packed"), ("without", False, "packed"), ("zstd", True, "zstd")):
        options = {"embed_base": embed, "mask_codec": codec, "made_from": {"base": "x"}}
        compress(tmp_path / name, difference(base, tuned), 0.5, **options)
        facts = json.loads(json.dumps(inspect(open_bundle(tmp_path / name))))
        size, whole = (tmp_path / name).stat().st_size, sum(w.numel() * w.element_size() for w in base.values())
        assert facts["bits"]["total"] == 8 * size == sum(v for k, v in facts["bits"].items() if k != "total")
        assert facts["bits"]["base"] == (8 * whole if embed else 0)
        assert facts["ratio"] == 4 * whole / (size if embed else size + whole)
        assert (facts["domain_weights"], facts["frozen_weights"]) == (159, 25)
        assert facts["formula_gigabits"] == pytest.approx((32 * (2 * 159 + 25) + 4 * 159) / 1e9)
        assert sum(facts["shares"].values()) == pytest.approx(1)
        assert facts["made_from"] == {"base": "x"}
        assert facts["mask_codec"] == codec
        assert np.allclose(sum(facts["profile"]), 1)
