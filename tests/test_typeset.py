import json

import pandas as pd
import pytest
from fake import FORMATS, fake_suite
from tally.cli import main
from tally.records import load_suite
from tally.tables import read_main
from tally.typeset import (
    Shown,
    bold_best,
    label,
    latex,
    markdown,
    show_storage,
    signed,
    stored,
    write_suites_table,
    write_table,
    write_tables,
)

COUNTS = {"domain_weights": 87_849_216, "frozen_weights": 25_599_489}
SHOWN = Shown(["Method", "A %"], [["a_b", "1.0"], ["c", "[2.0, −1.0]"]], {(0, 1)}, {1})


@pytest.fixture(scope="module")
def suites(tmp_path_factory):
    root = tmp_path_factory.mktemp("fake")
    return [load_suite(fake_suite(root, tasks=tasks, examples=40)) for tasks in (3, 5)]


def test_markdown():
    assert markdown(SHOWN).splitlines() == [
        "| Method   |         A % |",
        "|:---------|------------:|",
        "| a_b      |     **1.0** |",
        "| c        | [2.0, −1.0] |",
    ]


def test_the_note_is_a_line_below_and_a_comment_in_latex():
    noted = SHOWN._replace(note="How to read it.")
    assert markdown(noted) == markdown(SHOWN) + "\nHow to read it.\n"
    assert latex(noted) == "% How to read it.\n" + latex(SHOWN)


def test_latex():
    assert latex(SHOWN).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Method & A \% \\",
        r"\midrule",
        r"a\_b & \textbf{1.0} \\",
        r"\midrule",
        r"c & {[}2.0, $-$1.0{]} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_best_of_each_group_is_bold_and_equals_after_rounding_share_it():
    methods = ["task-arithmetic", "ties", "fine-tuned", "magnitude-masking", "tall-ties"]
    assert bold_best(methods, {1: [70.04, 69.96, 99, 80, 90]}) == {(0, 1), (1, 1), (4, 1)}


def test_words():
    assert label("ties", pd.NA, pd.NA) == label("ties") == "TIES"
    assert label("consensus-ties", 2, True) == "Consensus TIES, k = 2 (chosen)"
    assert label("consensus-ties", 2, False) == "Consensus TIES, k = 2"
    assert [stored(v) for v in (57.04, 8.199, 0.1552)] == ["57.0", "8.20", "0.155"]


def test_csv_keeps_digits_and_empty_cells(tmp_path):
    table = pd.DataFrame({"method": ["a", "b"], "k": pd.array([None, 2], dtype="Int64"), "x": [1 / 3, None]})
    write_table(table, SHOWN, tmp_path / "deep" / "t.v1")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["t.v1.csv", "t.v1.md", "t.v1.tex"]
    assert (tmp_path / "deep" / "t.v1.csv").read_text() == "method,k,x\na,,0.333333\nb,2,\n"


def test_tables_of_a_suite_are_the_same_bytes_each_time(suites, tmp_path):
    for run in ("one", "two"):
        write_tables(suites[0], COUNTS, tmp_path / run)
        write_suites_table({s.name: read_main(tmp_path / run / "main.csv") for s in suites}, tmp_path / run / "suites")
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == sorted(
        f"{t}.{e}" for t in ("main", "per_task", "paired", "choices", "suites") for e in ("csv", "md", "tex")
    )
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_formats_that_halve_the_bits_and_keep_the_accuracy_are_bold():
    columns = {"method": "tall-ties", "base": "fp16", "vector": "int8", "codec": "zstd", "bytes": 10**7}
    columns |= dict.fromkeys(["bits_base", "bits_vector", "bits_masks", "bits_other", "bits"], 2.0)
    columns |= dict.fromkeys(["normalized", "normalized_low", "normalized_high", "low", "high"], 99.0)
    rows = [columns | {"share": share, "difference": loss} for share, loss in ((50, -0.2), (51, 0), (40, -0.21))]
    shown = show_storage(pd.DataFrame(rows))
    assert shown.bold == {(0, 1)}
    assert shown.rows[0][1] == "fp16-int8-zstd"
    assert signed(-0.004, 2) == "+0.00"
    assert signed(-0.21, 2) == "−0.21"


def test_the_printed_main_table_shows_the_chosen_k_and_two(suites, tmp_path):
    write_tables(suites[1], COUNTS, tmp_path)
    lines = [line for line in (tmp_path / "main.md").read_text().splitlines() if "Consensus TIES" in line]
    assert [line.split("|")[1].strip() for line in lines] == ["Consensus TIES, k = 1 (chosen)", "Consensus TIES, k = 2"]
    assert "nan" not in "".join(path.read_text().lower() for path in tmp_path.iterdir())


def trained_elsewhere(root):
    folder = fake_suite(root, tasks=2, examples=20)
    for task in ("cars", "dtd"):
        path = folder.parent / "finetuned" / f"{task}.json"
        facts = {"provenance": {"published": "owner/models", "source": "owner/models", "revision": "0123456789"}}
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    return folder


def test_the_storage_table_says_what_was_trained_elsewhere(tmp_path):
    folder, formats = trained_elsewhere(tmp_path), list(FORMATS)[1:]
    stems = ["--table", str(tmp_path / "storage"), "--figure", str(tmp_path / "figure")]
    command = ["storage-table", "--folder", str(folder), "--tasks", "cars", "dtd", "--formats", *formats]
    assert main([*command, "--candidates", "tall-ties", "task-arithmetic", *stems]) == 0
    assert set(pd.read_csv(tmp_path / "storage.csv")["provenance"]) == {"owner/models at 0123456"}
    assert "Fine-tuned models: owner/models at 0123456." in (tmp_path / "storage.md").read_text()


def test_what_was_trained_elsewhere_is_a_column_and_a_note(tmp_path):
    write_tables(load_suite(trained_elsewhere(tmp_path)), COUNTS, tmp_path / "tables")
    for name in ("main", "per_task", "paired", "choices"):
        table = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        assert set(table["provenance"]) == {"owner/models at 0123456"}, name
        for ending in ("md", "tex"):
            assert (
                "Fine-tuned models: owner/models at 0123456." in (tmp_path / "tables" / f"{name}.{ending}").read_text()
            )
    write_suites_table({"two": read_main(tmp_path / "tables" / "main.csv")}, tmp_path / "suites")
    assert set(pd.read_csv(tmp_path / "suites.csv")["provenance"]) == {"owner/models at 0123456"}
