import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tally.merging import merge
from tally.vectors import open_vectors


def reference(tau, keep, mean, frozen=0):
    """The authors' functions (topk_values_mask, resolve_sign, disjoint_merge) on dense vectors with F frozen zeros."""
    whole = torch.from_numpy(np.pad(tau, ((0, 0), (0, frozen))))
    size = whole.shape[1]
    k = size - int(size * keep)
    if k:
        whole = whole * (whole.abs() >= whole.abs().kthvalue(k, dim=1, keepdim=True).values)
    mass = whole[0].clone()
    for row in whole[1:]:  # torch.sum may pair terms otherwise
        mass += row
    sign = mass.sign()
    sign[sign == 0] = sign.sum().sign()
    kept = whole * torch.where(sign > 0, whole > 0, whole < 0)
    total = torch.zeros(size)
    for row in kept:
        total += row
    total = total / (kept != 0).sum(0).float().clamp(min=1) if mean else total
    return total[: tau.shape[1]].numpy()


def merged(tau, name, keep=0.2, **more):
    return merge(open_vectors({f"t{i:02}": {"w": row} for i, row in enumerate(tau)}), name, keep=keep, **more).vector


values = st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.5]))


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=values),
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.77, 1.0]),
    st.integers(0, 30),
)
def test_both_are_the_authors(tau, keep, frozen):
    for name, mean in (("ties", True), ("ties-sum", False)):
        found = merged(tau, name, keep, frozen=frozen, chunk=8)
        np.testing.assert_array_equal(found, reference(tau, keep, mean, frozen))


@pytest.mark.parametrize(("rest", "expected"), [(3, 1), (-3, -1), (0, -1)])
def test_a_zero_sum_takes_the_majority_sign_else_the_negative(rest, expected):
    tau = np.float32([[1, rest], [-1, rest]])
    assert merged(tau, "ties-sum", keep=1)[0] == expected
    assert merged(tau, "ties", keep=1)[0] == expected
    np.testing.assert_array_equal(merged(tau, "ties", keep=1), reference(tau, 1, True))


def test_one_task_untrimmed_is_itself():
    tau = np.random.default_rng(0).standard_normal((1, 100)).astype(np.float32)
    np.testing.assert_array_equal(merged(tau, "ties", keep=1.0), tau[0])


def test_trim_keeps_at_or_above_the_kth():
    tau = np.arange(1, 11, dtype=np.float32)[None]
    np.testing.assert_array_equal(np.flatnonzero(merged(tau, "ties", keep=0.2)), [7, 8, 9])  # 8th smallest of 10 stays
    np.testing.assert_array_equal(np.flatnonzero(merged(tau, "ties", keep=0.2, frozen=10)), [5, 6, 7, 8, 9])


def test_large_and_random():
    tau = np.random.default_rng(0).standard_t(2, (8, 30_011)).astype(np.float32)
    np.testing.assert_array_equal(merged(tau, "ties"), reference(tau, 0.2, True))
    np.testing.assert_array_equal(merged(tau, "ties-sum", threads=2), reference(tau, 0.2, False))


def test_the_majority_counts_over_all_chunks():
    tau = np.float32([[1, 1, 1, 1], [-1, 1, -1, 1]]).repeat(20, axis=1)
    tau[:, 60:] = -1  # more negative than positive signs, but only at the end
    tau[:, :20] *= 3
    expected = reference(tau, 1, False)
    assert (expected[:20] == -3).all()
    for chunk in (8, 24, 1000):
        np.testing.assert_array_equal(merged(tau, "ties-sum", keep=1, chunk=chunk), expected)
    with_levels = merge(
        open_vectors({"a": {"w": tau[0]}, "b": {"w": tau[1]}}), "ties-sum", keep=1, chunk=8, lambdas=[0.5, 0.9]
    )
    far = np.abs(expected - tau)
    levels = sum((np.abs(tau) >= np.float32(scale) * far).astype(int) for scale in (0.5, 0.9))
    np.testing.assert_array_equal(with_levels.levels, levels)
