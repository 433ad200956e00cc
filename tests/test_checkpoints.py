import json
import os
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file as reference_load
from safetensors.torch import save_file as reference_save
from tally import checkpoints
from tally.checkpoints import as_checkpoint, check_aligned, create, open_checkpoint, save
from tally.errors import TallyError
from tally.files import atomic_file, read_json, sha256, write_json

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(7, np.int64),
    "half": np.array([1.5, -2], np.float16),
    "empty": np.zeros((0, 4), np.uint8),
    "bool": np.array([True, False, True]),
}


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_save_and_open_agree_with_the_official_library(tmp_path):
    path = tmp_path / "new" / "x.safetensors"
    save(path, TENSORS, "data", {"task": "mnist", "classes": ["0", "1"], "seed": 3})
    checkpoint, reference = open_checkpoint(path), reference_load(path)
    assert checkpoint.names == sorted(TENSORS) == sorted(reference)
    for name, tensor in TENSORS.items():
        for read in (checkpoint[name], reference[name]):
            assert read.dtype == tensor.dtype
            assert read.shape == tensor.shape
            np.testing.assert_array_equal(read, tensor)
    assert checkpoint.metadata == {
        "format": "pt",
        "tally_format": "1",
        "kind": "data",
        "task": "mnist",
        "classes": '["0", "1"]',
        "seed": "3",
    }
    assert files(path.parent) == ["x.safetensors"]


def test_metadata_known_last(tmp_path):
    with create(tmp_path / "x", {"a": ("U8", (3,))}, "x", {"sum": 255, "of": "a"}) as writer:
        writer["a"][:] = 1, 2, 3
        writer.metadata["sum"] = 6
    assert open_checkpoint(tmp_path / "x").metadata.items() >= {"sum": "6", "of": "a"}.items()
    np.testing.assert_array_equal(reference_load(tmp_path / "x")["a"], [1, 2, 3])
    with pytest.raises(IndexError), create(tmp_path / "y", {"a": ("U8", (3,))}, "x", {"sum": 255}) as writer:
        writer.metadata["sum"] = "6" * 99
    assert files(tmp_path) == ["x"]


def test_same_content_same_bytes(tmp_path):
    save(tmp_path / "1", TENSORS, "x", {"a": 1, "b": 2})
    save(tmp_path / "2", dict(reversed(TENSORS.items())), "x", {"b": 2, "a": 1})
    assert sha256(tmp_path / "1") == sha256(tmp_path / "2")


def test_official_file_with_bfloat16(tmp_path):
    tensors = {"w": torch.randn(3, 5).bfloat16(), "v": torch.randn(4)}
    reference_save(tensors, tmp_path / "x.safetensors")
    for checkpoint in (open_checkpoint(tmp_path / "x.safetensors"), as_checkpoint(tensors)):
        assert checkpoint.dtype("w") == "BF16"
        np.testing.assert_array_equal(checkpoint.float32("w"), tensors["w"].float().numpy())
        np.testing.assert_array_equal(checkpoint.float32("v"), tensors["v"].numpy())
    save(tmp_path / "again", as_checkpoint(tensors), "model")
    assert open_checkpoint(tmp_path / "again").dtype("w") == "BF16"


def test_reading_is_lazy_and_read_only(tmp_path):
    save(tmp_path / "x", TENSORS, "x")
    tensor = open_checkpoint(tmp_path / "x")["b"]
    assert not tensor.flags.writeable
    assert not tensor.flags.owndata


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1),
        st.tuples(st.sampled_from(sorted(checkpoints.DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
    )
)
def test_created_files_hold_what_was_written(tmp_path_factory, layout):
    layout.pop("__metadata__", None)
    path = tmp_path_factory.mktemp("created") / "x.safetensors"
    with create(path, layout, "x") as writer:
        for i, (name, (dtype, shape)) in enumerate(layout.items()):
            assert writer[name].shape == tuple(shape)
            assert writer[name].flags.aligned
            writer[name][...] = np.full(shape, i % 2).astype(checkpoints.DTYPES[dtype])
    checkpoint = open_checkpoint(path)
    assert {name: (checkpoint.dtype(name), list(checkpoint.shape(name))) for name in checkpoint.names} == layout
    for i, name in enumerate(layout):
        assert (checkpoint[name] == i % 2).all()


def test_flat_writer_is_in_name_order(tmp_path):
    with create(tmp_path / "x", {"b": ("F32", (2,)), "a": (np.float32, (3,)), "c": ("F32", ())}, "x") as writer:
        writer.flat()[:] = np.arange(6)
    checkpoint = open_checkpoint(tmp_path / "x")
    assert [checkpoint[name].tolist() for name in "abc"] == [[0, 1, 2], [3, 4], 5]


def test_sharded_folder_and_index(tmp_path):
    save(tmp_path / "m-1.safetensors", {"a": np.float32([1])}, "x")
    save(tmp_path / "m-2.safetensors", {"b": np.float32([2])}, "x")
    assert open_checkpoint(tmp_path).names == ["a", "b"]
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}))
    assert open_checkpoint(index).names == open_checkpoint(tmp_path).names == ["a", "b"]
    before = sha256(tmp_path)
    save(tmp_path / "m-2.safetensors", {"b": np.float32([3])}, "x")
    assert sha256(tmp_path) != before

    for text in ("{", "[]", '{"weight_map": {"a": "../m-1.safetensors"}}', '{"weight_map": {"z": "m-1.safetensors"}}'):
        index.write_text(text)
        with pytest.raises(TallyError, match="fetch it again"):
            open_checkpoint(tmp_path)
    index.unlink()
    save(tmp_path / "m-3.safetensors", {"b": np.float32([2])}, "x")
    with pytest.raises(TallyError, match=r"'b' is in more than one shard of .*m-3"):
        open_checkpoint(tmp_path)


def test_every_truncation_is_told(tmp_path):
    save(tmp_path / "x", TENSORS, "x")
    whole = (tmp_path / "x").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(TallyError, match="cut"):
            open_checkpoint(tmp_path / "cut")
    (tmp_path / "cut").write_bytes(whole + b"?")
    with pytest.raises(TallyError, match="corrupt"):
        open_checkpoint(tmp_path / "cut")


def header(entries):
    body = json.dumps(entries).encode()
    return len(body).to_bytes(8, "little") + body


@pytest.mark.parametrize(
    "entries",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
        {"a": {"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}},
        {"a": 3},
        {"__metadata__": 3},
    ],
)
def test_corrupt_headers(tmp_path, entries):
    (tmp_path / "bad").write_bytes(header(entries) + b"\0" * 4)
    with pytest.raises(TallyError, match="bad"):
        open_checkpoint(tmp_path / "bad")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "flipped"
    save(path, TENSORS, "x")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(TallyError):
        open_checkpoint(path)


def test_pickles_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "zip.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    (tmp_path / "x.pt").write_bytes(b"anything at all")
    for name in ("zip.safetensors", "old", "x.pt"):
        with pytest.raises(TallyError, match=f"{name} is a pickle.*tally convert"):
            open_checkpoint(tmp_path / name)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(TallyError, match=r"cannot read .*nowhere: No such file"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(TallyError, match=r"no \*\.safetensors in the folder"):
        open_checkpoint(tmp_path)
    with pytest.raises(TallyError, match="cannot read"):
        sha256(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"a": np.float32([1])}, "'b' of <one> is missing from <two>"),
        ({"a": np.float32([1]), "b": np.float32([1]), "c": np.float32([1])}, "'c' of <two> is missing from <one>"),
        ({"a": np.float32([1]), "b": np.float32([1, 2])}, r"'b' is \[1\] in <one> and \[2\] in <two>"),
        ({"a": np.float32([1]), "b": np.float16([1])}, "'b' is F32 in <one> and F16 in <two>"),
    ],
)
def test_unaligned_checkpoints(other, said):
    one = as_checkpoint({"a": np.float32([1]), "b": np.float32([1])}, "<one>")
    check_aligned([one, one])
    check_aligned([one, as_checkpoint(other, "<two>")], names=["a"])
    with pytest.raises(TallyError, match=said):
        check_aligned([one, as_checkpoint(other, "<two>")])


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "x"
    save(path, {"a": np.float32([1])}, "x")
    before = path.read_bytes()

    def interrupted():
        with create(path, {"a": ("F32", (5,))}, "x") as writer:
            writer["a"][:] = 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == ["x"]
    assert path.read_bytes() == before


def test_disk_full_and_forbidden(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(TallyError, match=r"disk full while writing .*x; free"), create(tmp_path / "x", {}, "x"):
            pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TallyError, match="disk full"):
            save(tmp_path / "x", TENSORS, "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(TallyError, match=r"cannot write .*rights"):
        save(tmp_path / "file" / "x", TENSORS, "x")
    assert files(tmp_path) == ["file"]


def test_write_json_and_atomic_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, 2]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2]}

    def broken():
        with atomic_file(tmp_path / "x.json") as temporary:
            temporary.write_text("half")
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        broken()
    assert files(tmp_path) == ["x.json"]
    assert read_json(tmp_path / "x.json") == {"a": [1, 2]}


def test_unknown_names_and_dtypes():
    checkpoint = as_checkpoint({"a": np.arange(3)}, "<it>")
    with pytest.raises(TallyError, match="no tensor 'b' in <it>"):
        checkpoint["b"]
    with pytest.raises(TallyError, match="'a' in <it> is I64"):
        checkpoint.float32("a")
    with pytest.raises(TallyError, match="complex64"):
        as_checkpoint({"a": np.zeros(1, np.complex64)})
