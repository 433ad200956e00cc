import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally.selection import choose_alpha, choose_lambda

ALPHAS = [0.1, 0.2, 0.3, 0.4]


@st.composite
def cases(draw):
    """For some tasks: fine-tuned accuracy and the margin of every validation example at every alpha."""
    tasks = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    margins = {f"task{t}": rng.normal(rng.normal(size=(len(ALPHAS), 1)), 1, (len(ALPHAS), rng.integers(1, 40))) for t in range(tasks)}  # fmt: skip
    return margins, {task: float(rng.uniform(0.1, 1)) for task in margins}


def full_grid(margins, reference):
    """The plain search: every alpha on everything, the first maximum."""
    scores = [
        sum((m[i] > 0).sum() / m.shape[1] / reference[t] for t, m in margins.items()) / len(margins)
        for i in range(len(ALPHAS))
    ]
    return ALPHAS[scores.index(max(scores))], scores


@settings(max_examples=300)
@given(cases(), st.integers(1, 50))
def test_lazy_search_chooses_as_the_full_grid(case, block):
    margins, reference = case
    every, asked = np.concatenate(list(margins.values()), axis=1), []

    def answers(alpha, rows):
        asked.extend((alpha, row) for row in rows)
        return every[ALPHAS.index(alpha), rows]

    totals = {task: m.shape[1] for task, m in margins.items()}
    alpha, rows = choose_alpha(ALPHAS, totals, reference, answers, block=block)
    best, scores = full_grid(margins, reference)
    assert alpha == best
    assert len(set(asked)) == len(asked)  # nothing is examined twice
    for i, (row, score) in enumerate(zip(rows, scores)):
        assert row["bound"] >= score
        assert sum(seen for _, seen in row["counts"].values()) == sum(a == ALPHAS[i] for a, _ in asked)
        if row["normalized"] is not None:
            assert row["normalized"] == score
            assert row["counts"] == {t: [(m[i] > 0).sum(), m.shape[1]] for t, m in margins.items()}
        else:
            assert row["bound"] <= max(scores)


def test_of_equal_alphas_the_smallest_wins():
    alpha, rows = choose_alpha([0.3, 0.1, 0.2], {"a": 10}, {"a": 1.0}, lambda alpha, rows: 4.5 - rows)
    assert alpha == 0.1
    assert [row["alpha"] for row in rows] == [0.1, 0.2, 0.3]


def test_the_pioneers_failures_come_first_and_a_hopeless_alpha_stops_early():
    """The pioneer, 0.2, the best on the probe, fails on 40 of 100; an alpha that fails on the same can at best be its equal, and stops."""
    fails = {0.1: set(range(100)), 0.2: set(range(10, 50)), 0.3: set(range(10, 60))}

    def answers(alpha, rows):
        return np.array([-1.0 if row in fails[alpha] else 1.0 for row in rows])

    alpha, rows = choose_alpha([0.1, 0.2, 0.3], {"a": 60, "b": 40}, {"a": 1.0, "b": 1.0}, answers, block=10)
    assert alpha == 0.2
    assert rows[0]["normalized"] is None
    assert rows[2]["normalized"] is None
    assert sum(seen for _, seen in rows[2]["counts"].values()) == 50  # the probe of 10, and 40 of which it fails on 36


def test_lambda_with_most_correct_then_smallest():
    rows = [{"lambda": v, "correct": c} for v, c in [(0.4, 9), (0.2, 7), (0.3, 9)]]
    assert choose_lambda(rows)["lambda"] == 0.3


def test_zero_reference_is_an_error_that_names_the_task():
    from tally.errors import TallyError

    with pytest.raises(TallyError, match="letters"):
        choose_alpha(ALPHAS, {"letters": 3}, {"letters": 0.0}, lambda *_: np.zeros(3))
