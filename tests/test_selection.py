import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally.selection import choose_alpha, choose_lambda

ALPHAS = [0.1, 0.2, 0.3, 0.4]


@st.composite
def answers(draw):
    """For some tasks: fine-tuned accuracy and, per alpha, which validation examples come out right."""
    tasks = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    right = {
        f"task{t}": rng.random((len(ALPHAS), rng.integers(1, 40))) < rng.random((len(ALPHAS), 1)) for t in range(tasks)
    }
    return right, {task: float(rng.uniform(0.1, 1)) for task in right}


def full_grid(right, reference):
    """The plain search: every alpha on everything, the first maximum."""
    scores = [
        sum(r[i].sum() / r.shape[1] / reference[t] for t, r in right.items()) / len(right) for i in range(len(ALPHAS))
    ]
    return ALPHAS[scores.index(max(scores))], scores


@settings(max_examples=300)
@given(answers(), st.integers(1, 50))
def test_lazy_search_chooses_as_the_full_grid(case, block):
    right, reference = case
    asked = []

    def answers(alpha, task, rows):
        asked.extend((alpha, task, row) for row in rows)
        return right[task][ALPHAS.index(alpha), rows]

    totals = {task: r.shape[1] for task, r in right.items()}
    alpha, rows = choose_alpha(ALPHAS, totals, reference, answers, block=block)
    best, scores = full_grid(right, reference)
    assert alpha == best
    assert len(set(asked)) == len(asked)  # nothing is examined twice
    for row, score in zip(rows, scores):
        assert row["bound"] >= score
        if row["normalized"] is not None:
            assert row["normalized"] == score
        else:
            assert row["bound"] <= max(scores)


def test_of_equal_alphas_the_smallest_wins():
    alpha, rows = choose_alpha([0.3, 0.1, 0.2], {"a": 10}, {"a": 1.0}, lambda alpha, task, rows: rows < 5)
    assert alpha == 0.1
    assert [row["alpha"] for row in rows] == [0.1, 0.2, 0.3]


def test_the_pioneers_failures_come_first_and_a_hopeless_alpha_stops_early():
    """The pioneer fails on 40 of 100; an alpha that fails on the same can at best be its equal, and stops."""
    fails = {0.1: set(range(10, 50)), 0.2: set(range(10, 60)), 0.3: set(range(100))}

    def answers(alpha, task, rows):
        return np.array([row not in fails[alpha] for row in rows])

    alpha, rows = choose_alpha([0.1, 0.2, 0.3], {"a": 100}, {"a": 1.0}, answers, block=10)
    assert alpha == 0.1
    assert rows[1]["normalized"] is None
    assert rows[1]["counts"] == rows[2]["counts"] == {"a": [0, 40]}


def test_lambda_with_most_correct_then_smallest():
    rows = [{"lambda": v, "correct": c} for v, c in [(0.4, 9), (0.2, 7), (0.3, 9)]]
    assert choose_lambda(rows)["lambda"] == 0.3


def test_zero_reference_is_an_error_that_names_the_task():
    from tally.errors import TallyError

    with pytest.raises(TallyError, match="letters"):
        choose_alpha(ALPHAS, {"letters": 3}, {"letters": 0.0}, lambda *_: np.zeros(3, bool))
