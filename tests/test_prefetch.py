import threading

import pytest
import torch
from tally.prefetch import ahead, one_ahead


def test_on_a_cpu_batches_pass_as_they_are_when_they_are_asked_for():
    made = []

    def batches():
        for n in range(3):
            made.append(n)
            yield torch.tensor([n])

    for n, batch in enumerate(ahead(batches(), "cpu", lambda batch, move: pytest.fail("nothing is moved"))):
        assert batch.item() == n
        assert made == list(range(n + 1))


def test_the_next_is_made_while_one_is_worked_with_and_no_further_one():
    made = [threading.Event() for _ in range(5)]

    def items():
        for n in range(4):
            made[n].set()
            yield n

    found = []
    for n in one_ahead(items()):
        found.append(n)
        assert n == 3 or made[n + 1].wait(10)
        assert not made[min(n + 2, 4)].is_set()
    assert found == [0, 1, 2, 3]
    assert list(one_ahead([])) == []


def test_an_error_comes_after_what_was_made_before_it():
    def items():
        yield 1
        raise ValueError("no second")

    found = one_ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no second"):
        next(found)


def test_stopping_early_ends_the_thread():
    before = threading.active_count()
    for n in one_ahead(range(100)):
        if n == 2:
            break
    del n
    assert threading.active_count() == before
