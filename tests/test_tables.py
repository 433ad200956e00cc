import numpy as np
import pandas as pd
import pytest
from fake import FORMATS, fake_suite
from tally.errors import TallyError
from tally.records import load_suite
from tally.statistics import bootstrap
from tally.storage import gigabits
from tally.tables import (
    CONSENSUS,
    LABELS,
    best_rows,
    choices_table,
    label_of,
    main_table,
    paired_table,
    per_task_table,
    read_main,
    rows_of,
    storage_table,
    suites_table,
)
from tally.typeset import write_tables

COUNTS = {"domain_weights": 87_849_216, "frozen_weights": 25_599_489}  # ViT-B/32


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return load_suite(fake_suite(tmp_path_factory.mktemp("fake"), tasks=8, examples=60))


@pytest.fixture(scope="module")
def samples(suite):
    return bootstrap(suite.hits, resamples=300)


@pytest.fixture(scope="module")
def main(suite, samples):
    return main_table(suite, samples, COUNTS)


def test_main_has_every_candidate_once_in_the_papers_order(suite, main):
    assert list(main.columns) == [
        "method", "k", "absolute", "normalized", "normalized_low", "normalized_high", "gigabits", "chosen",
    ]  # fmt: skip
    assert len(main) == len(suite.hits)
    assert list(main["method"].drop_duplicates()) == list(LABELS)
    assert list(main.loc[main["method"] == "consensus-ties", "k"]) == list(range(1, 9))


def test_main_equals_a_dense_computation(suite, main):
    for row in main.itertuples():
        name = row.method if pd.isna(row.k) else f"{row.method}-k{row.k}"
        accuracies = {c: [np.mean(suite.hits[c][t]) for t in suite.tasks] for c in (name, "fine-tuned")}
        ratios = np.divide(accuracies[name], accuracies["fine-tuned"])
        assert row.absolute == pytest.approx(100 * np.mean(accuracies[name]))
        assert row.normalized == pytest.approx(100 * np.mean(ratios))
        assert row.normalized_low <= row.normalized <= row.normalized_high
        assert row.gigabits == gigabits(row.method, **COUNTS, tasks=8)


def test_storage_of_the_paper(main):
    stored = main.drop_duplicates("method").set_index("method")["gigabits"].round(1)
    assert (stored["ties"], stored["fine-tuned"], stored["tall-ties"]) == (3.6, 23.3, 7.1)


def test_best_rows_keep_the_chosen_k(main):
    rows = best_rows(main)
    assert list(rows["method"]) == list(LABELS)
    assert dict(zip(rows["method"], rows["k"], strict=True))["consensus-task-arithmetic"] == 2


def test_per_task_means_are_the_absolute_column(suite, main):
    table, rows = per_task_table(suite), best_rows(main)
    assert list(table.columns) == ["method", "k", *suite.tasks]
    np.testing.assert_allclose(table[list(suite.tasks)].mean(axis=1), rows["absolute"])


def test_paired_is_the_difference_of_the_main_table(suite, samples, main):
    table = paired_table(suite, samples)
    consensus = table[table["method"].isin(CONSENSUS)]
    assert (len(consensus), len(table)) == (3 * 8, 3 * 8 + 2)
    assert consensus.groupby(["method", "baseline"])["chosen"].sum().eq(1).all()
    assert table["k"].isna().eq(table["chosen"].isna()).all()
    value = {(r.method, None if pd.isna(r.k) else r.k): r.normalized for r in main.itertuples()}
    for row in table.itertuples():
        k = None if pd.isna(row.k) else row.k
        baseline = value[row.baseline, k if row.baseline in CONSENSUS else None]
        assert row.difference == pytest.approx(value[row.method, k] - baseline)
        assert row.low <= row.difference <= row.high
        assert row.wins + row.losses <= row.tasks == 8


def test_paired_is_narrower_than_unpaired(suite, samples):
    row = paired_table(suite, samples).iloc[1]
    apart = np.hypot(samples["consensus-task-arithmetic-k2"].std(), samples["task-arithmetic"].std())
    assert row["high"] - row["low"] < 100 * 4 * apart


def test_choices_hold_alpha_lambda_and_density(suite):
    table = choices_table(suite)
    searched = table[table["task"] == ""]
    masks = table[table["task"] != ""]
    assert len(searched) == 2 + 3 * 8
    assert searched["alpha"].eq(0.4).all()
    assert searched["chosen"].sum() == 3
    assert list(masks["method"].unique()) == ["tall-task-arithmetic", "tall-ties"]
    row, mask = masks.iloc[1], suite.masks["task-arithmetic"]["tasks"]["dtd"]
    assert (row["task"], row["lambda"], row["density"]) == ("dtd", mask["lambda"], 100 * mask["density"])
    val = suite.per_task["fine-tuned"]["dtd"]["val"]
    assert row["validation"] == pytest.approx(100 * 0.89 / (val["correct"] / val["total"]))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = fake_suite(tmp_path_factory.mktemp("stored"), tasks=4, examples=100)
    suite = load_suite(folder, formats=list(FORMATS)[1:])
    return suite, bootstrap(suite.hits, resamples=300)


def test_storage_formats_are_rows_of_the_main_table(stored):
    suite, samples = stored
    main = main_table(suite, samples, COUNTS).set_index("method")
    names = list(main.index)
    at = names.index("tall-ties")
    assert names[at:] == ["tall-ties", "tall-ties-fp32-fp32-zstd", "tall-ties-fp16-int8-zstd"]
    found = suite.storage["tall-ties"]["formats"]["fp16-int8-zstd"]
    assert main.loc["tall-ties-fp16-int8-zstd", "gigabits"] == 8 * found["bytes"] / 1e9
    assert main.loc["tall-ties", "gigabits"] == gigabits("tall-ties", **COUNTS, tasks=4)
    assert label_of("tall-task-arithmetic-fp16-int8-zstd") == "TALL mask + TA, fp16-int8-zstd"
    assert set(suites_table({"one": main.reset_index()})["method"]) == set(LABELS)


def test_storage_table_equals_a_dense_computation(stored):
    suite, samples = stored
    table = storage_table(suite, samples)
    assert list(table["method"]) == ["tall-task-arithmetic"] * 3 + ["tall-ties"] * 3
    for row in table.itertuples():
        name = f"{row.base}-{row.vector}-{row.codec}"
        base, vector, mask = FORMATS[name]
        assert (row.bits_base, row.bits_vector, row.bits_masks, row.bits_other) == (base / 4, vector / 4, mask, 0.2)
        assert row.bits == pytest.approx((base + vector) / 4 + mask + 0.2) == 8 * row.bytes / 4000
        paper = table[(table["method"] == row.method) & (table["codec"] == "packed")].iloc[0]
        assert row.share == 100 * row.bytes / paper["bytes"]
        assert row.difference == pytest.approx(row.normalized - paper["normalized"])
        assert row.low <= row.difference <= row.high
        candidate = row.method if row.codec == "packed" else f"{row.method}-{name}"
        ratios = [suite.hits[candidate][t].mean() / suite.hits["fine-tuned"][t].mean() for t in suite.tasks]
        assert row.normalized == pytest.approx(100 * np.mean(ratios))
    assert (table.loc[table["codec"] == "packed", ["difference", "low", "high"]] == 0).all(axis=None)


def test_suites_stand_side_by_side(main):
    other = main[main["method"] != "tall-ties"].assign(normalized=1.0)
    table = suites_table({"one": main, "two": other}).set_index(["method", "choice"])
    assert len(table) == len(LABELS) + 3
    row = table.loc[("random-consensus", "validation")]
    assert (row["one k"], row["two normalized"]) == (1, 1.0)
    assert table.loc[("random-consensus", "k=2"), "one k"] == 2
    assert pd.isna(table.loc[("tall-ties", ""), "two absolute"])
    assert table.loc[("tall-ties", ""), "one absolute"] > 0


def test_a_main_table_survives_its_csv(suite, main, tmp_path):
    write_tables(suite, COUNTS, tmp_path)
    columns = "method,k,absolute,normalized,normalized_low,normalized_high,gigabits"
    assert (tmp_path / "main.csv").read_text().splitlines()[0] == columns
    again = read_main(tmp_path / "main.csv")
    drawn = ["normalized_low", "normalized_high"]  # of another number of resamples
    pd.testing.assert_frame_equal(again.drop(columns=drawn), main.drop(columns=drawn), check_dtype=False, atol=1e-6)
    assert read_main(tmp_path / "main.csv")["chosen"].sum() == 3
    with pytest.raises(TallyError, match=r"none\.csv: cannot be read"):
        read_main(tmp_path / "none.csv")


def test_without_counts_the_storage_is_empty(suite, samples):
    assert main_table(suite, samples)["gigabits"].isna().all()


def test_a_suite_may_lack_methods(tmp_path):
    folder = fake_suite(tmp_path, tasks=2, examples=30)
    suite = load_suite(folder, candidates=["task-arithmetic", "consensus-task-arithmetic-k1"])
    samples = bootstrap(suite.hits, resamples=20)
    assert [m for m, _ in rows_of(suite)] == ["zero-shot", "task-arithmetic", "consensus-task-arithmetic", "fine-tuned"]
    assert len(main_table(suite, samples, COUNTS)) == 4
    assert list(paired_table(suite, samples)["baseline"]) == ["task-arithmetic"]
