import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tally.blocks import float32
from tally.bundle import open_bundle
from tally.checkpoints import open_checkpoint
from tally.encoding import dequantize, quantize, rounded, rows
from tally.errors import TallyError
from tally.packing import compress
from tally.vectors import difference
from test_bundle import models

values = arrays(np.float32, 50, elements=st.floats(-1e4, 1e4, width=32))


@settings(max_examples=50, deadline=None)
@given(values=values)
def test_rounding_is_torchs(values):
    for dtype, kind in (("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)):
        expected = torch.from_numpy(values).to(kind).float().numpy()
        np.testing.assert_array_equal(float32(rounded(values, dtype)), expected)


@pytest.mark.parametrize(("dtype", "value"), [("F16", 7e4), ("BF16", 3.4e38), ("F32", np.inf), ("BF16", np.nan)])
def test_what_does_not_fit(dtype, value):
    with pytest.raises(TallyError, match=f"a weight is too large for {dtype}, or no number"):
        rounded(np.float32([1, value]), dtype)


@pytest.mark.parametrize("shape", [(), (5,), (3, 64), (3, 8, 9), (3, 4), (0,), (0, 70)])
def test_int8(shape):
    """Every code is within half a step of its row, read in any pieces."""
    weight = np.random.default_rng(0).standard_t(3, shape).astype(np.float32)
    if len(shape) > 1:
        weight[:1] = 0
    codes, scales = quantize(weight.reshape(-1), shape)
    assert scales.shape == (rows(shape),) == (3 if shape in ((3, 64), (3, 8, 9)) else 1,)
    if not weight.size:
        return
    whole = dequantize(codes, scales, shape, 0).reshape(shape)
    table = weight.reshape(rows(shape), -1)
    steps = abs(table).max(axis=1, keepdims=True) / 127
    assert (abs(whole.reshape(table.shape) - table) <= steps * 0.5001).all()
    for lo in range(0, weight.size, 7):
        np.testing.assert_array_equal(
            dequantize(codes[lo : lo + 50], scales, shape, lo), whole.reshape(-1)[lo : lo + 50]
        )


@pytest.mark.parametrize("vector", ["fp32", "bf16", "fp16", "int8"])
@pytest.mark.parametrize("base_dtype", [None, "fp32", "bf16", "fp16"])
@pytest.mark.parametrize("codec", ["packed", "zstd"])
def test_bundles_of_fewer_bits(tmp_path, monkeypatch, vector, base_dtype, codec):
    monkeypatch.setattr("tally.packing.BLOCK", 64)
    monkeypatch.setattr("tally.codec.BLOCK", 64)
    monkeypatch.setattr("tally.packing.CHUNK", 16)
    monkeypatch.setattr("tally.bundle.CHUNK", 24)
    base, tuned = models()
    vectors = difference(base, tuned)
    compress(tmp_path / "exact", vectors, 0.4)
    options = {"vector_dtype": vector, "base_dtype": base_dtype, "mask_codec": codec}
    compress(tmp_path / "b", vectors, 0.4, embed_base=True, **options)
    bundle, exact = open_bundle(tmp_path / "b"), open_bundle(tmp_path / "exact", base=base)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(base_dtype, torch.float32)
    theta0 = {n: w.to(kind).float() if w.is_floating_point() else w for n, w in base.items()}
    bundle.restore("t1", tmp_path / "m")
    assert open_checkpoint(tmp_path / "m").dtypes == {n: "I64" if n == "steps" else "F32" for n in base}
    for name in base:
        if name not in bundle.places:
            assert torch.equal(bundle["t1"][name], theta0[name])
            continue
        lo, hi = bundle.places[name]
        tau, mask = exact.tau(name, lo, hi), exact.mask("t1", lo, hi)
        np.testing.assert_array_equal(bundle.mask("t1", lo, hi), mask)
        if vector == "int8":
            tau = dequantize(*quantize(tau, bundle.shapes[name]), bundle.shapes[name], 0)
        elif vector != "fp32":
            tau = (
                torch.from_numpy(tau.copy()).to({"bf16": torch.bfloat16, "fp16": torch.float16}[vector]).float().numpy()
            )
        expected = theta0[name].numpy().reshape(-1) + np.where(mask, tau, np.float32(0))
        np.testing.assert_array_equal(bundle["t1"][name].numpy().reshape(-1), expected)


def test_a_bfloat16_base_is_embedded_as_it_is(tmp_path):
    base, tuned = models(dtype="BF16")
    compress(tmp_path / "b", difference(base, tuned), 0.4, embed_base=True, base_dtype="fp16")
    assert open_checkpoint(tmp_path / "b").dtypes["base/v.w"] == "BF16"
    assert torch.equal(open_bundle(tmp_path / "b", base=base)["t0"]["text.w"], base["text.w"])


def test_bad_requests(tmp_path):
    vectors = difference(*models())
    for options, message in (
        ({"vector_dtype": "int4"}, "unknown vector dtype 'int4'; known are fp32, bf16, fp16, int8"),
        ({"embed_base": True, "base_dtype": "int8"}, "unknown base dtype 'int8'; known are fp32, bf16, fp16"),
        ({"mask_codec": "gzip"}, "unknown mask codec 'gzip'; known are packed, zstd"),
        ({"base_dtype": "bf16"}, "a base dtype is for a base that is embedded"),
    ):
        with pytest.raises(TallyError, match=message):
            compress(tmp_path / "b", vectors, 0.4, **options)
    assert list(tmp_path.iterdir()) == []
