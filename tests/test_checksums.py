import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tally import checksums
from tally.checkpoints import create, open_checkpoint, save
from tally.errors import TallyError
from tally.files import read_json, write_json

TENSORS = {
    "b": np.arange(6, dtype="f4").reshape(2, 3),
    "a": np.array(7),
    "none": np.zeros((0, 4), "u1"),
    "c": np.int8([1]),
}
RECORD = {"alpha": 0.5, "tasks": {"mnist": [1, 2]}}


def touched(path) -> dict[str, np.ndarray]:
    file = open_checkpoint(path)
    return {name: file[name] for name in file.names}


def flipped(path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The same tensors by `save` and by `create`, and a record."""
    folder = tmp_path_factory.mktemp("written")
    save(folder / "saved", TENSORS, "x", {"task": "m\\"})
    layout = {name: (array.dtype, array.shape) for name, array in TENSORS.items()}
    with create(folder / "created", layout, "x", {"task": "m\\"}) as writer:
        for name, array in TENSORS.items():
            writer[name][...] = array
    write_json(folder / "record.json", RECORD)
    return folder


def test_the_checksums_are_what_the_module_says(written):
    """Written down again from its docstring."""
    text = (written / "saved").read_bytes()
    length = 8 + int.from_bytes(text[:8], "little")
    header = json.loads(text[8:length])
    digits = header.pop("__metadata__")["tally_checksum"]
    assert digits[:16] == xxhash.xxh3_64_hexdigest(text[:length].replace(digits[:16].encode(), b"0" * 16))
    for i, entry in enumerate(header.values(), 1):
        begin, stop = entry["data_offsets"]
        assert digits[16 * i : 16 * i + 16] == xxhash.xxh3_64_hexdigest(text[length + begin : length + stop])
    assert len(digits) == 16 * (1 + len(header))
    record = (written / "record.json").read_bytes()
    found = json.loads(record)["tally_checksum"]
    assert found == xxhash.xxh3_64_hexdigest(record.replace(found.encode(), b"0" * 16))


def test_both_writers_write_the_same(written):
    assert (written / "saved").read_bytes() == (written / "created").read_bytes()
    facts = {"format": "pt", "kind": "x", "tally_format": "1", "task": "m\\"}
    assert open_checkpoint(written / "saved").metadata == facts
    assert read_json(written / "record.json") == RECORD


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_flipped_bit_changes_what_is_read(written, data):
    path = written / data.draw(st.sampled_from(["saved", "record.json"]))
    damaged = written / "flipped"
    damaged.write_bytes(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * path.stat().st_size - 1))
    flipped(damaged, bit)
    read = read_json if path.suffix else touched
    message = None
    try:
        found = read(damaged)
    except TallyError as error:
        message = str(error)
    if message:
        assert str(damaged) in message
        assert len(message.splitlines()) == 1
    else:  # in the name of the checksum itself
        assert damaged.read_bytes()[: bit // 8].rsplit(b'"', 1)[1] in b"tally_checksum"
        assert all(str(found[name]) == str(value) for name, value in read(path).items())


def test_a_damaged_tensor_is_told_when_it_is_touched_and_not_before(tmp_path):
    folder = tmp_path / "sharded"
    for name, array in TENSORS.items():
        save(folder / f"{name}.safetensors", {name: array}, "x")
    flipped(folder / "b.safetensors", 8 * (folder / "b.safetensors").stat().st_size - 1)
    file = open_checkpoint(folder)
    assert file.shape("b") == (2, 3)
    assert file.dtype("b") == "F32"
    assert [file[name].tolist() for name in "ac"] == [7, [1]]
    for _ in range(2):
        with pytest.raises(TallyError, match=r"b\.safetensors is damaged: tensor 'b' changed.*delete it and run again"):
            file["b"]
    with pytest.raises(TallyError, match="no tensor 'z'"):
        file.shape("z")


def test_a_tensor_is_compared_once(written, monkeypatch):
    calls, digest = [], checksums.digest
    monkeypatch.setattr(checksums, "digest", lambda content: calls.append(1) or digest(content))
    file = open_checkpoint(written / "saved")
    assert len(calls) == 1  # the header
    for _ in range(3):
        file["b"], file.float32("b"), file.tensors["b"]
    assert len(calls) == 2


def test_threads_may_touch_a_tensor_at_once(written):
    file, failures = open_checkpoint(written / "saved"), []

    def touch():
        try:
            file["b"]
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=touch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_files_without_checksums_are_read_as_they_are(tmp_path):
    save_file(TENSORS, tmp_path / "foreign")
    (tmp_path / "foreign.json").write_text(json.dumps(RECORD))
    assert touched(tmp_path / "foreign").keys() == TENSORS.keys()
    assert read_json(tmp_path / "foreign.json") == RECORD
    (tmp_path / "list.json").write_text("[]")
    write_json(tmp_path / "list.json", ["a"])
    assert json.loads((tmp_path / "list.json").read_text()) == ["a"]


def test_verification_can_be_turned_off(written, tmp_path, monkeypatch):
    for name in ("saved", "record.json"):
        (tmp_path / name).write_bytes((written / name).read_bytes())
    flipped(tmp_path / "saved", 8 * os.path.getsize(tmp_path / "saved") - 1)
    text = (tmp_path / "record.json").read_text()
    (tmp_path / "record.json").write_text(text.replace("0.5", "0.6"))
    monkeypatch.setattr(checksums, "verify", False)
    assert touched(Path(tmp_path / "saved"))["c"].tolist() == [-127]
    assert read_json(tmp_path / "record.json")["alpha"] == 0.6
    monkeypatch.setattr(checksums, "verify", True)
    for read, name in ((touched, "saved"), (read_json, "record.json")):
        with pytest.raises(TallyError, match=f"{name} is damaged"):
            read(tmp_path / name)
