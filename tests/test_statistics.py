import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally.errors import TallyError
from tally.statistics import (
    bootstrap,
    interval,
    normalized_accuracy,
    pack_hits,
    resampled_weights,
    unpack_hits,
)

TASKS = ("b", "a", "c")


def some_hits(seed: int, names=("fine-tuned", "x", "y"), sizes=(13, 40, 101)) -> dict:
    rng = np.random.default_rng(seed)
    return {name: {t: rng.random(n) < 0.7 for t, n in zip(TASKS, sizes, strict=True)} for name in names}


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_hits_survive_packing(values):
    hits = np.array(values)
    np.testing.assert_array_equal(unpack_hits(pack_hits(hits), "here"), hits)


@pytest.mark.parametrize(
    "change",
    [{"correct": 3}, {"total": 40}, {"total": 0}, {"hits": "!!"}, {"hits": None}, {"total": None}],
)
def test_contradicting_counts_are_refused_in_one_line(change):
    counts = pack_hits(np.array([True, False] * 10)) | change
    with pytest.raises(TallyError, match=r"^here: .*evaluate it again$"):
        unpack_hits(counts, "here")


def test_normalized_accuracy_is_a_mean_of_ratios():
    assert normalized_accuracy({"a": 0.5, "b": 0.2}, {"a": 1.0, "b": 0.25}) == pytest.approx((0.5 + 0.8) / 2)
    with pytest.raises(TallyError, match=r"^b: "):
        normalized_accuracy({"a": 0.5, "b": 0.2}, {"a": 1.0, "b": 0.0})


def test_resampled_weights_are_bootstrap_counts():
    blocks = list(resampled_weights(200_000, 3, np.random.default_rng(0)))  # more examples than a chunk holds
    assert [block.shape for block in blocks] == [(1, 200_000)] * 3
    weights = np.concatenate(list(resampled_weights(50, 4000, np.random.default_rng(0))))
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.02)  # of a multinomial with n equal shares


def test_bootstrap_equals_a_loop_over_the_same_draws():
    hits = some_hits(1)
    samples = bootstrap(hits, resamples=25, seed=7)
    draws = {}
    for task in TASKS:
        n = len(hits["x"][task])
        rng = np.random.default_rng([7, zlib.crc32(task.encode())])
        draws[task] = rng.integers(0, n, size=(25, n), dtype=np.int32)
    for name in hits:
        for r in range(25):
            ratios = []
            for task in sorted(TASKS):
                ours, theirs = (hits[c][task][draws[task][r]] for c in (name, "fine-tuned"))
                ratios.append(ours.mean() / theirs.mean())
            assert samples[name][r] == pytest.approx(np.mean(ratios), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_equal_candidates_differ_by_exactly_zero(seed):
    hits = some_hits(seed)
    hits["twin"] = {task: value.copy() for task, value in hits["x"].items()}
    samples = bootstrap(hits, resamples=50, seed=seed)
    assert interval(samples["x"] - samples["twin"]) == (0.0, 0.0)
    assert interval(samples["fine-tuned"]) == (1.0, 1.0)


def test_samples_do_not_depend_on_order_company_or_run():
    hits = some_hits(3)
    samples = bootstrap(hits, resamples=30)
    turned = {name: dict(reversed(hits[name].items())) for name in reversed(hits)}
    alone = {name: hits[name] for name in ("x", "fine-tuned")}
    for other in (bootstrap(hits, resamples=30), bootstrap(turned, resamples=30), bootstrap(alone, resamples=30)):
        np.testing.assert_array_equal(other["x"], samples["x"])
    assert (bootstrap(hits, resamples=30, seed=1)["x"] != samples["x"]).any()


def test_reference_without_right_answers_in_a_resample_stays_finite():
    hits = {"fine-tuned": {"a": np.array([True, False])}, "x": {"a": np.array([True, True])}}
    assert np.isfinite(bootstrap(hits, resamples=100)["x"]).all()


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        hits = {"fine-tuned": {"a": np.ones(300, dtype=bool)}, "x": {"a": rng.random(300) < 0.8}}
        low, high = interval(bootstrap(hits, resamples=300)["x"])
        covered += low <= 0.8 <= high
    assert 180 <= covered <= 199


@given(st.lists(st.booleans(), max_size=40))
def test_packed_hits_keep_every_answer(hits):
    row = pack_hits(np.array(hits, dtype=bool))
    bits = np.unpackbits(np.frombuffer(base64.b64decode(row["hits"]), dtype=np.uint8), count=len(hits))
    assert bits.astype(bool).tolist() == hits
    assert (row["correct"], row["total"]) == (sum(hits), len(hits))
