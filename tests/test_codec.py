import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import codec
from tally.bundle import open_bundle
from tally.checkpoints import open_checkpoint, save
from tally.codec import frame, order, unframe
from tally.encoding import rounded
from tally.errors import TallyError
from tally.merging import merge
from tally.packing import compress, pack_bundle
from tally.vectors import difference
from test_bundle import models, written


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "I8"])
def test_order_is_by_magnitude_and_stable(dtype):
    tau = np.random.default_rng(0).standard_t(3, 500).astype(np.float32) / 50
    tau[:20] = np.repeat([0, -0.0], 10)
    stored = np.clip(tau * 500, -127, 127).astype(np.int8) if dtype == "I8" else rounded(tau, dtype)
    size = abs(stored.astype(float)) if dtype == "I8" else abs(tau)
    if dtype == "BF16":
        size = (stored & 0x7FFF).astype(float)
    elif dtype == "F16":
        size = abs(stored.astype(float))
    places = order(stored)
    assert sorted(places) == list(range(500))
    steps = np.diff(size[places])
    # of float32 8 bits of the fraction count
    assert (steps >= (0 if dtype != "F32" else -(2**-8) * size[places][1:])).all()
    assert (np.diff(places)[steps == 0] > 0).all()


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 3000), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_frame_holds_the_mask(size, share, seed):
    rng = np.random.default_rng(seed)
    mask, places = np.packbits(rng.random(size) < share), rng.permutation(size)
    data = np.frombuffer(frame(mask, places), np.uint8)
    np.testing.assert_array_equal(unframe(data, places, "here"), mask)


def test_zstd_restores_the_same_bits(tmp_path, monkeypatch):
    """In blocks of any size, for chunks that begin and end anywhere in them."""
    monkeypatch.setattr(codec, "BLOCK", 24)
    monkeypatch.setattr("tally.packing.BLOCK", 24)
    monkeypatch.setattr(codec, "PIECE", 2)
    base, _, packed = written(tmp_path)
    (tmp_path / "zstd").mkdir()
    _, _, path = written(tmp_path / "zstd", mask_codec="zstd")
    one, other = open_bundle(packed, base=base), open_bundle(path, base=base)
    assert (one.metadata["mask_codec"], other.metadata["mask_codec"]) == ("packed", "zstd")
    for task in one:
        for lo, hi in ((0, 159), (0, 1), (5, 30), (23, 25), (24, 48), (100, 159), (158, 159)):
            np.testing.assert_array_equal(one.mask(task, lo, hi), other.mask(task, lo, hi))
        for name in base:
            np.testing.assert_array_equal(one.weight(task, name), other.weight(task, name))


def test_the_stage_makes_the_same_frames(tmp_path):
    base, tuned, path = written(tmp_path, mask_codec="zstd", embed_base=True, vector_dtype="int8")
    vectors = difference(base, tuned)
    merged = merge(vectors, "task-arithmetic", lambdas=0.4)
    save(tmp_path / "merged", vectors.split(merged.vector), "merged")
    save(tmp_path / "masks", dict(zip(vectors.tasks, merged.masks)), "masks", {"strict": False})
    pack_bundle(
        tmp_path / "staged", base, tmp_path / "merged", tmp_path / "masks", dict.fromkeys(tuned, 0.4),
        method="task-arithmetic", mask_codec="zstd", vector_dtype="int8",
    )  # fmt: skip
    assert (tmp_path / "staged").read_bytes() == path.read_bytes()


def test_masks_that_follow_the_vector_shrink(tmp_path):
    """Tall masks of heavy-tailed task vectors: smaller by a twentieth already at this size."""
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(size=(500, 400)).astype(np.float32)}
    tuned = {f"t{i}": {"w": base["w"] + rng.standard_t(3, (500, 400)).astype(np.float32) / 50} for i in range(4)}
    vectors = difference(base, tuned)
    sizes = {}
    for kind in ("packed", "zstd"):
        compress(tmp_path / kind, vectors, 0.5, mask_codec=kind)
        file = open_checkpoint(tmp_path / kind)
        sizes[kind] = sum(file[name].nbytes for name in file.names if name != "tau")
    assert sizes["zstd"] < 0.95 * sizes["packed"]


def damaged(path, out, name, change):
    """A copy of the bundle with other bytes in one of its tensors."""
    raw = bytearray(path.read_bytes())
    length = int.from_bytes(raw[:8], "little")
    begin, stop = json.loads(raw[8 : 8 + length])[name]["data_offsets"]
    raw[8 + length + begin : 8 + length + stop] = change(bytes(raw[8 + length + begin : 8 + length + stop]))
    out.write_bytes(raw)
    return out


@pytest.mark.usefixtures("unverified")
@pytest.mark.parametrize(
    "change",
    [
        lambda data: bytes(len(data)),
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),  # the checksum
        lambda data: data[:10] + bytes([data[10] ^ 8]) + data[11:],
        lambda data: data[1:] + b"\0",
        lambda data: data[:4] + b"\xff" * 9 + data[13:],  # a size beyond all memory
    ],
)
def test_a_damaged_frame_is_named(tmp_path, change):
    base, _, path = written(tmp_path, mask_codec="zstd")
    bundle = open_bundle(damaged(path, tmp_path / "bad", "mask/t1", change), base=base)
    assert bundle["t0"]["v.w"].shape == (17, 9)
    with pytest.raises(TallyError, match=r"the mask of 't1' in .*bad is damaged: its zstd frame is not whole; make"):
        bundle["t1"]["v.w"]
    with pytest.raises(TallyError, match="the mask of 't1'"):
        bundle.restore("t1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sizes_that_disagree_are_told_at_once(tmp_path):
    _, _, path = written(tmp_path, mask_codec="zstd")
    with pytest.raises(TallyError, match="damaged bundle"):
        open_bundle(damaged(path, tmp_path / "bad", "frames", lambda data: bytes(len(data))))


def test_packed_needs_no_zstandard(tmp_path):
    code = (
        "import sys; sys.modules['zstandard'] = None; sys.path[:0] = sys.argv[2:]\n"
        "from test_bundle import *\nfrom pathlib import Path\n"
        "base, _, path = written(Path(sys.argv[1]))\nopen_bundle(path, base=base)['t0']['v.w']"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path, *sys.path], check=True)


def test_bits_of_random_masks_cost_a_header_only(tmp_path):
    base, tuned = models()
    save(tmp_path / "merged", difference(base, tuned).split(np.zeros(159, np.float32)), "merged")
    mask = np.packbits(np.random.default_rng(0).random(159) < 0.5)
    pack_bundle(tmp_path / "b", base, tmp_path / "merged", {"t": mask}, {"t": 1}, method="ties", mask_codec="zstd")
    assert open_checkpoint(tmp_path / "b")["mask/t"].nbytes < mask.nbytes + 24
