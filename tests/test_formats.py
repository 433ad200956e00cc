from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tally import formats
from tally.bundle import fingerprint, open_bundle
from tally.checkpoints import save
from tally.evaluate import Bench, Examiner, Split, examine
from tally.formats import compare, restored, split_bits
from tally.merging import merge
from tally.packing import pack_bundle
from tally.vectors import difference

FORMATS = ["fp32-fp32-zstd", "fp16-int8-packed", "fp16-int8-zstd"]


@pytest.fixture
def suite(tmp_path, tiny_weights, tiny_model, colours):
    """Two tasks on the miniature CLIP: what packs their bundle, what examines it, and the dense restored models."""
    rng = np.random.default_rng(0)
    base = {name: w.numpy() for name, w in tiny_weights.items()}
    tuned = {
        t: {n: w + rng.normal(0, 0.02, w.shape).astype("f4") * n.startswith("visual.") for n, w in base.items()}
        for t in "ab"
    }
    vectors = difference(base, tuned)
    merged = merge(vectors, "task-arithmetic", lambdas=0.4)
    save(tmp_path / "merged", vectors.split(merged.vector), "merged")
    save(tmp_path / "masks", dict(zip("ab", merged.masks)), "masks", {"strict": False})
    pack = partial(
        pack_bundle, base=base, merged=tmp_path / "merged", masks=tmp_path / "masks",
        lambdas={"a": 0.4, "b": 0.4}, method="task-arithmetic",
    )  # fmt: skip
    images, labels = colours
    heads = {task: torch.randn(2, 16, generator=torch.Generator().manual_seed(i)) for i, task in enumerate("ab")}
    bench = Bench(heads, {}, {"a": Split(images[:40], labels[:40]), "b": Split(images[20:], labels[20:])})
    kept = [np.unpackbits(mask, count=vectors.size) * merged.vector for mask in merged.masks]
    dense = {
        t: {name: base[name] + part for name, part in vectors.split(vector).items()}
        for t, vector in zip("ab", kept, strict=True)
    }
    return SimpleNamespace(pack=pack, examiner=Examiner(tiny_model), bench=bench, dense=dense, base=base)


def test_models_are_those_of_the_file(suite, tmp_path):
    test = examine(suite.examiner, suite.bench, lambda task: suite.examiner.cast(suite.dense[task]))
    found = compare(FORMATS, suite.pack, suite.examiner, suite.bench, test)
    assert list(found) == ["fp32-fp32-packed", *FORMATS]
    for name, record in found.items():
        base, vector, codec = name.split("-")
        path = tmp_path / name
        suite.pack(path, base_dtype=base, vector_dtype=vector, mask_codec=codec)
        bundle = open_bundle(path)
        assert record["bytes"] == path.stat().st_size == sum(record["bits"].values()) / 8
        expected = examine(suite.examiner, suite.bench, lambda t, b=bundle: suite.examiner.cast(restored(b, t)))
        assert record["test"] == expected
    weights = sum(w.size for name, w in suite.base.items() if name.startswith("visual."))
    paper, small = found["fp32-fp32-packed"]["bits"], found["fp16-int8-packed"]["bits"]
    assert (paper["base"], paper["vector"]) == (32 * weights, 32 * weights)
    assert paper["masks"] == small["masks"] == 2 * 8 * -(-weights // 8)
    assert small["base"] == 16 * weights
    assert small["vector"] < 9 * weights


def test_the_same_weights_are_examined_once(suite, monkeypatch):
    """The paper's format never: its counts are there. What differs in the codec alone not again."""
    seen = []
    hits = Examiner.hits

    def counted(self, weights, head, split):
        seen.append(weights)
        return hits(self, weights, head, split)

    monkeypatch.setattr(Examiner, "hits", counted)
    exact = {"a": {"exact": True}, "b": {"exact": True}}
    found = compare([*FORMATS, "fp32-fp32-packed"], suite.pack, suite.examiner, suite.bench, exact)
    assert len(seen) == 2
    assert found["fp32-fp32-zstd"]["test"] == found["fp32-fp32-packed"]["test"] == exact
    assert found["fp16-int8-zstd"]["test"] == found["fp16-int8-packed"]["test"]


def test_restored_weights_are_the_dense_ones(suite, tmp_path):
    suite.pack(tmp_path / "b")
    bundle = open_bundle(tmp_path / "b")
    for task, expected in suite.dense.items():
        weights = restored(bundle, task)
        assert weights.keys() == expected.keys()
        assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    assert sum(split_bits(bundle).values()) == 8 * (tmp_path / "b").stat().st_size


def test_models_are_told_apart_by_names_and_bits():
    one = {"a": np.float32([1, 2]), "b": np.float32([0.0])}
    assert fingerprint(one) == fingerprint(dict(reversed(one.items())))
    others = [one | {"b": np.float32([-0.0])}, {"a": one["a"], "c": one["b"]}, {"a": one["a"]}]
    assert len({fingerprint(one), *map(fingerprint, others)}) == 4
    assert formats.PAPER == "fp32-fp32-packed"
