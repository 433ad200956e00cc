"""numba and torch must give the bits of numpy."""

import importlib

import numpy as np
import pytest
from tally import blocks

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
def test_histograms_and_widen(tau, ops):
    expected, found = np.zeros(1 << 15, np.int64), np.zeros(1 << 15, np.int64)
    blocks.histogram(blocks.bits(tau)[0], expected)
    ops.histogram(ops.bits(ops.put(tau))[0], found)
    np.testing.assert_array_equal(found, expected)
    high = int(expected.argmax())
    expected, found = np.zeros(1 << 16, np.int64), np.zeros(1 << 16, np.int64)
    blocks.low_histogram(blocks.bits(tau)[0], high, expected)
    ops.low_histogram(ops.bits(ops.put(tau))[0], high, found)
    np.testing.assert_array_equal(found, expected)
    half = (tau.view(np.uint32) >> 16).astype(np.uint16)[0]
    one, two = np.empty(half.size, np.uint32), np.empty(half.size, np.uint32)
    blocks.widen(half, one)
    ops.widen(half, two)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(ops.get(abs(ops.put(tau)) > 0.5), abs(tau) > 0.5)


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
