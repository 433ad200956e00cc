import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import streaming
from tally.errors import TallyError
from tally.masks import unpack
from tally.merging import consensus, merge, method
from tally.vectors import difference, open_vectors

MERGED = ["task-arithmetic", "weight-average", "ties", "ties-sum"]


def tau(seed=0, tasks=5, size=1003):
    return np.random.default_rng(seed).standard_t(3, (tasks, size)).astype(np.float32)


def as_vectors(rows):
    return open_vectors({f"t{i:02}": {"b": row[:3], "w": row[3:].reshape(-1, 10)} for i, row in enumerate(rows)})


def bits(merged):
    return [None if array is None else array.tobytes() for array in merged]


@pytest.mark.parametrize("name", MERGED)
def test_same_bits_whatever_the_chunk_threads_and_backend(name, monkeypatch):
    vectors = as_vectors(tau())
    expected = bits(merge(vectors, name, lambdas=[0.2, 0.4]))
    for chunk in (8, 104, 4096):
        for threads in (1, 2):
            assert bits(merge(vectors, name, lambdas=[0.2, 0.4], chunk=chunk, threads=threads)) == expected
    monkeypatch.setattr(streaming, "NUMBA_FROM", 0)
    assert bits(merge(vectors, name, lambdas=[0.2, 0.4])) == expected
    from tally import device

    monkeypatch.setattr(streaming, "backend", lambda *_: device)
    assert bits(merge(vectors, name, lambdas=[0.2, 0.4])) == expected


@pytest.mark.parametrize("name", MERGED)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)))
def test_the_order_of_tasks_does_not_matter(name, order):
    rows = tau()
    tasks = {f"t{i}": {"w": rows[i]} for i in order}
    assert bits(merge(open_vectors(tasks), name)) == bits(merge(open_vectors(dict(sorted(tasks.items()))), name))


@pytest.mark.parametrize("name", MERGED)
def test_from_checkpoints_as_from_task_vectors(name, tmp_path):
    from tally.checkpoints import create, save

    rows, base = tau(), np.random.default_rng(9).standard_normal(1003).astype(np.float32)
    save(tmp_path / "base", {"w": base}, "model")
    for i, row in enumerate(rows):
        save(tmp_path / f"t{i}", {"w": base + row}, "model")
    vectors = difference(tmp_path / "base", {f"t{i}": tmp_path / f"t{i}" for i in range(5)})
    expected = merge(open_vectors({f"t{i}": {"w": (base + row) - base} for i, row in enumerate(rows)}), name)
    with create(tmp_path / "out", vectors.layout("F32"), "merged") as writer:
        merged = merge(vectors, name, out={"vector": writer.flat()})
        assert merged.levels is merged.masks is merged.votes is None
        np.testing.assert_array_equal(merged.vector, expected.vector)


@pytest.mark.parametrize("name", ["consensus-task-arithmetic", "consensus-ties"])
def test_consensus_in_one_pass(name):
    vectors = as_vectors(tau())
    plain = merge(vectors, method(name).merged, lambdas=0.4)
    votes = unpack(plain.masks, vectors.size).sum(axis=0)
    np.testing.assert_array_equal(plain.votes, votes)
    for k in range(7):
        both = merge(vectors, name, k=k, lambdas=0.4, chunk=16)
        np.testing.assert_array_equal(both.vector, consensus(plain.vector, plain.votes, k, 5))
        np.testing.assert_array_equal(both.vector, np.where(votes >= k, plain.vector, 0))


def test_only_what_is_asked_for_is_kept():
    out = {"votes": np.empty(1003, np.uint8)}
    merged = merge(as_vectors(tau()), "ties-sum", lambdas=0.4, out=out)
    assert merged.vector is None
    np.testing.assert_array_equal(merged.votes, merge(as_vectors(tau()), "ties-sum", lambdas=0.4).votes)


def test_bad_requests():
    vectors = as_vectors(tau(tasks=2, size=13))
    with pytest.raises(TallyError, match="unknown method 'tise'; known are weight-average, task-arithmetic"):
        merge(vectors, "tise")
    with pytest.raises(TallyError, match="magnitude-pruning is not one merged vector"):
        merge(vectors, "magnitude-pruning")
    with pytest.raises(TallyError, match="consensus-ties needs k"):
        merge(vectors, "consensus-ties", lambdas=0.4)
    with pytest.raises(TallyError, match="ties takes no k"):
        merge(vectors, "ties", k=2)
    with pytest.raises(TallyError, match="needs one lambda"):
        merge(vectors, "consensus-ties", k=2, lambdas=[0.2, 0.4])
    for k in (-1, 4, 1.5, True):
        with pytest.raises(TallyError, match=f"k is {k}; with 2 tasks"):
            merge(vectors, "consensus-ties", k=k, lambdas=0.4)
