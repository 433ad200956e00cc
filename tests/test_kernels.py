"""numba and torch must give the bits of numpy."""

import importlib

import numpy as np
import pytest
from tally import blocks, kernels

LAMBDAS = np.float32([0.2, 0.3, 0.4, 0.5, 0.6])


def others():
    return [importlib.import_module(name) for name in ("tally.kernels", "tally.device")]


@pytest.fixture(params=[1, 7, 2048, 5000])
def tau(request):
    random = np.random.default_rng(request.param)
    tau = random.standard_t(2, (6, request.param)).astype(np.float32)
    tau[random.random(tau.shape) < 0.2] = 0
    tau[1] = np.where(random.random(tau.shape[1]) < 0.3, -tau[0], tau[1])  # exact cancellation
    tau[2:, random.random(tau.shape[1]) < 0.3] = 0
    tau[:, random.random(tau.shape[1]) < 0.05] *= np.float32(1e-38)  # subnormal
    return tau


@pytest.mark.parametrize("ops", others(), ids=lambda ops: ops.__name__)
@pytest.mark.parametrize("strict", [False, True])
def test_total_and_levels(tau, ops, strict):
    expected, found = np.empty(tau.shape[1], np.float32), np.empty(tau.shape[1], np.float32)
    blocks.total(tau, expected)
    ops.total(ops.put(tau), found)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
    grid = np.tile(LAMBDAS, (len(tau), 1)) * np.float32(1.1) ** np.arange(len(tau), dtype=np.float32)[:, None]
    one, two = np.empty(tau.shape, np.uint8), np.empty(tau.shape, np.uint8)
    blocks.levels(tau, expected, grid, strict, one)
    ops.levels(ops.put(tau), expected, grid, strict, two)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("ops", others(), ids=lambda ops: ops.__name__)
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("majority", [1, -1])
def test_ties(tau, ops, mean, majority):
    thresholds = np.quantile(np.abs(tau), 0.5, axis=1).astype(np.float32)
    expected, found = np.empty(tau.shape[1], np.float32), np.empty(tau.shape[1], np.float32)
    report = blocks.ties(tau, thresholds, majority, mean, expected)
    assert tuple(ops.ties(ops.put(tau), thresholds, majority, mean, found)) == report
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ops", others(), ids=lambda ops: ops.__name__)
def test_histograms(tau, ops):
    expected, found = np.zeros(1 << 15, np.int64), np.zeros(1 << 15, np.int64)
    blocks.histogram(blocks.bits(tau)[0], expected)
    ops.histogram(ops.bits(ops.put(tau))[0], found)
    np.testing.assert_array_equal(found, expected)
    high = int(expected.argmax())
    expected, found = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    blocks.low_histogram(blocks.bits(tau)[0], high, expected)
    ops.low_histogram(ops.bits(ops.put(tau))[0], high, found)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(ops.get(abs(ops.put(tau)) > 0.5), abs(tau) > 0.5)


KINDS = ["float32", "bfloat16", "float16", "unaligned", "strided", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [None, "same", "float32"])
def test_differences(tau, kind, base):
    def stored(row, kind):
        if kind == "bfloat16":
            return (row.view(np.uint32) >> 16).astype(np.uint16)
        if kind == "unaligned":
            return np.frombuffer(b"x" + row.tobytes(), np.uint8)[1:].view(np.float32)
        return np.repeat(row, 2)[::2] if kind == "strided" else row.astype("f2" if kind == "float16" else "f4")

    tau = tau.clip(-9, 9)
    thetas = [stored(row, ["bfloat16", "float32"][t % 2] if kind == "mixed" else kind) for t, row in enumerate(tau)]
    theta = (
        None
        if base is None
        else stored(-tau[0], "float32" if "float32" in (base, kind) else kind.replace("mixed", "float16"))
    )
    out = np.full((2, len(tau), tau.shape[1] + 5), 9, np.float32)
    assert blocks.differences(thetas, theta, out[0], 3)
    assert kernels.differences(thetas, theta, out[1], 3)
    np.testing.assert_array_equal(*out.view(np.uint32))
    assert (np.delete(out, np.s_[3:-2], axis=2) == 9).all()
    dense = [blocks.float32(row) - (0 if theta is None else blocks.float32(theta)) for row in thetas]
    np.testing.assert_array_equal(out[0, :, 3:-2], dense)


@pytest.mark.parametrize("ops", [blocks, kernels], ids=["blocks", "kernels"])
@pytest.mark.parametrize("place", [0, 2047, 2048, 4999])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, -np.float32(np.nan), 3.4e38])
def test_what_is_not_finite_is_told(ops, place, value):
    thetas, out = np.ones((3, 5000), np.float32), np.empty((3, 5000), np.float32)
    base = np.full(5000, -1e38, np.float32)  # from which 3.4e38 is too far
    with np.errstate(all="ignore"):
        assert ops.differences(list(thetas), base, out, 0)
        thetas[1, place] = value
        assert not ops.differences(list(thetas), base, out, 0)
        assert ops.differences(list(thetas), None, out, 0) == (value == 3.4e38)


@pytest.mark.parametrize(
    ("sizes", "base", "room"),
    [([16, 4], 16, (2, 16)), ([16, 16], 4, (2, 16)), ([16, 16], 16, (2, 15)), ([16, 16], 16, (1, 16))],
)
def test_lengths_that_differ_are_refused(sizes, base, room):
    out = np.full((3, 20), 9, np.float32)
    with pytest.raises(ValueError, match=r"broadcast|shorter|longer"):
        kernels.differences(
            [np.ones(n, np.float32) for n in sizes], np.ones(base, np.float32), out[: room[0], : room[1]], 0
        )
    assert (out[2] == 9).all()
    assert (out[:, 16:] == 9).all()


def test_without_a_cache_folder(monkeypatch):
    import numba
    from tally.kernels import compiled

    njit = numba.njit

    def refuse(function, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(function, **options)

    monkeypatch.setattr(numba, "njit", refuse)
    assert compiled(lambda x: x + 1)(1) == 2
