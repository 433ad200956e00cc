import subprocess
import sys

import numpy as np
import pytest
from fake import FORMATS, fake_suite
from tally import figures
from tally.errors import TallyError
from tally.figures.style import COLORS, MARKERS, spread
from tally.records import load_suite
from tally.statistics import bootstrap
from tally.tables import LABELS, best_rows, main_table, per_task_table, storage_table

COUNTS = {"domain_weights": 87_849_216, "frozen_weights": 25_599_489}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return load_suite(fake_suite(tmp_path_factory.mktemp("fake"), tasks=5, examples=40))


@pytest.fixture(scope="module")
def main(suite):
    return main_table(suite, bootstrap(suite.hits, resamples=50), COUNTS)


def test_matplotlib_waits_until_something_is_drawn():
    code = "import sys, tally.figures, tally.typeset; print([m for m in ('matplotlib', 'torch') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert result.stdout.strip() == "[]"


def test_every_method_has_its_own_colour():
    assert set(COLORS) == set(LABELS)
    assert len(set(COLORS.values())) == len(COLORS)
    assert set(MARKERS) <= set(COLORS)


def test_labels_are_spread_and_keep_their_order():
    values = [1.0, 1.1, 5.0, 0.9]
    places = spread(values, 0.5)
    assert np.argsort(places).tolist() == np.argsort(values).tolist()
    assert np.diff(sorted(places)).min() >= 0.5 - 1e-3
    assert places[2] == 5.0
    assert spread([], 1) == []


def test_agreement_shows_profile_chance_and_shares(suite):
    figure = figures.agreement(suite.votes)
    for axis, method in zip(figure.axes, ("task-arithmetic", "ties"), strict=True):
        heights = [bar.get_height() for bar in axis.patches]
        record = suite.votes[method]
        np.testing.assert_allclose(heights, 100 * np.array(record["profile"] + record["chance"]))
        assert f"catastrophic {100 * record['profile'][0]:.1f} %" in axis.get_title(loc="right")
    assert len(figures.agreement({"ties": suite.votes["ties"]}).axes) == 1


def test_accuracy_vs_k_draws_the_main_table(main):
    axis = figures.accuracy_vs_k(main).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    for method in ("consensus-task-arithmetic", "consensus-ties", "random-consensus"):
        line = lines[LABELS[method]]
        np.testing.assert_allclose(line.get_ydata(), main.loc[main["method"] == method, "normalized"])
        assert line.get_color() == COLORS[method]
    flat = [
        line.get_ydata()[0] for line in axis.lines if len(set(line.get_ydata())) == 1 and line.get_linestyle() == "--"
    ]
    assert len(flat) == 3


def test_density_and_radar_draw_the_per_task_table(suite):
    table = per_task_table(suite)
    top, bottom = figures.density(suite.masks["ties"], table).axes
    np.testing.assert_allclose(
        [bar.get_height() for bar in bottom.patches],
        [100 * suite.masks["ties"]["tasks"][t]["density"] for t in suite.tasks],
    )
    rows = table.set_index("method")[list(suite.tasks)]
    np.testing.assert_allclose(
        top.lines[1].get_ydata(), 100 * (rows.loc["tall-ties"] / rows.loc["fine-tuned"]).to_numpy(float)
    )
    axis = figures.radar(table).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata()[:-1], rows.loc["fine-tuned"].to_numpy(float))
    assert [text.get_text() for text in axis.get_xticklabels()] == list(suite.tasks)


def test_tasks_and_overview(main):
    rows = best_rows(main)
    assert len(figures.tasks([(8, rows)]).axes) == 2
    left, right = figures.tasks([(14, rows), (8, rows)]).axes
    assert list(left.lines[0].get_xdata()) == [8, 14]
    assert right.lines[0].get_ydata()[0] == rows.loc[rows["method"] == "fine-tuned", "gigabits"].iloc[0]
    axis = figures.overview(rows).axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in axis.patches], rows["normalized"])


def test_storage_draws_every_format_and_what_it_is_measured_against(tmp_path):
    suite = load_suite(fake_suite(tmp_path, tasks=5, examples=40), formats=list(FORMATS)[1:])
    samples = bootstrap(suite.hits, resamples=50)
    table = storage_table(suite, samples)
    rows = best_rows(main_table(suite, samples, {"domain_weights": 1000, "frozen_weights": 10}))
    left, right = figures.storage(rows, table, 5000).axes
    points = [line for line in right.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose([p.get_xdata()[0] for p in points], table["bits"])
    np.testing.assert_allclose([p.get_ydata()[0] for p in points], table["normalized"])
    assert [p.get_markerfacecolor() == "white" for p in points] == list(table["codec"] == "packed")
    texts = {text.get_text(): text.xy[0] for text in left.texts}
    assert texts["Fine-tuned"] == pytest.approx(32 + 32 * 10 / 5000)
    assert texts["Magnitude pruning"] == pytest.approx((64 + 5) / 5 + 32 * 10 / 5000)


def test_saved_files_are_the_same_each_time_and_carry_no_date(suite, tmp_path):
    for run in ("one", "two"):
        figures.save(figures.agreement({"ties": suite.votes["ties"]}), tmp_path / run / "x")
    for ending, magic in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        first, second = ((tmp_path / run / f"x.{ending}").read_bytes() for run in ("one", "two"))
        assert first == second
        assert first.startswith(magic)
        assert b"Date" not in first


def test_every_figure_of_a_suite_is_written(suite, tmp_path):
    for name in figures.FIGURES:
        figures.save(figures.draw(name, suite), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{n}.{e}" for n in figures.FIGURES for e in ("pdf", "png")
    )


def test_what_cannot_be_drawn_is_said(suite, tmp_path):
    with pytest.raises(TallyError, match="unknown figure pie; known: overview"):
        figures.draw("pie", suite)
    folder = fake_suite(tmp_path, tasks=2, examples=20)
    for kind in ("votes", "masks"):
        for path in (folder / kind).iterdir():
            path.unlink()
    bare = load_suite(folder)
    for name in ("agreement", "density"):
        with pytest.raises(TallyError, match=r"not found|no votes"):
            figures.draw(name, bare)
