import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading

import pytest
import tally
from tally import files
from tally.errors import TallyError
from tally.files import atomic_file, read_json, sha256, size, write_bytes


def test_broken_json_is_named(tmp_path):
    for content in (b"{", b"[]", b"\xff\xfe"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(TallyError, match=r"x\.json: .*delete it"):
            read_json(tmp_path / "x.json")


def test_sha256_tells_how_far_it_is(tmp_path):
    whole, read = os.urandom(3 << 20), []
    for name, content in {"a.safetensors": whole, "b.safetensors": b"b", "c.json": b"{}"}.items():
        write_bytes(tmp_path / name, content)
    assert sha256(tmp_path / "a.safetensors", read.append) == hashlib.sha256(whole).hexdigest()
    assert sum(read) == size(tmp_path / "a.safetensors") == len(whole)
    assert len(read) > 2
    read.clear()
    assert sha256(tmp_path, read.append) == sha256(tmp_path)
    assert sum(read) == size(tmp_path) == len(whole) + 1


def test_writing_is_whole_or_nothing(tmp_path):
    write_bytes(tmp_path / "new" / "a.txt", b"1")
    write_bytes(tmp_path / "new" / "a.txt", b"2")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"2"
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(TallyError, match=r"cannot write .*b\.txt"):
        write_bytes(tmp_path / "b.txt", b"3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.txt", "new"]


WRITER = """
import pathlib, sys, time
from tally.files import atomic_file
with atomic_file(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `[x]*.bin`."""
    folder = os.path.dirname(os.path.dirname(tally.__file__))
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "[x]*.bin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": folder},
    )  # fmt: skip
    assert child.stdout.readline() == b"writing\n"
    yield child
    child.kill()
    child.communicate()


def test_the_file_of_a_killed_writer_is_swept_by_the_next(tmp_path, writer):
    (stale,) = tmp_path.iterdir()
    others = [tmp_path / ".y.bin.0123abcd.tmp", tmp_path / ".[x]*.bin.0123abcd.tmp", tmp_path / "[x]*.bin.tmp"]
    for other in others:
        other.write_bytes(b"someone else's")
    write_bytes(tmp_path / "y.bin", b"another target")
    assert stale.exists()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert stale.exists()
    write_bytes(tmp_path / "[x]*.bin", b"whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "[x]*.bin", tmp_path / "y.bin", *others}


def test_the_file_of_a_live_writer_is_left_alone(tmp_path, writer):
    write_bytes(tmp_path / "[x]*.bin", b"mine")
    with atomic_file(tmp_path / "[x]*.bin") as temporary:  # the same in one process
        temporary.write_bytes(b"second")
        write_bytes(tmp_path / "[x]*.bin", b"third")
    assert (tmp_path / "[x]*.bin").read_bytes() == b"second"
    writer.communicate(b"")
    assert writer.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["[x]*.bin"]
    assert (tmp_path / "[x]*.bin").read_bytes() == b"half"


def test_swept_before_it_is_locked_a_writer_takes_another_name(tmp_path, monkeypatch):
    lock, seen = fcntl.flock, []

    def late(descriptor, operation):
        if not operation & fcntl.LOCK_NB and not seen:
            seen.extend(tmp_path.iterdir())
            files._sweep(tmp_path / "a")
            assert list(tmp_path.iterdir()) == []
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_bytes(tmp_path / "a", b"1")
    assert len(seen) == 1
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_disk_without_locks(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", none)
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_bytes(b"1")
            monkeypatch.undo()
            files._sweep(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_many_writers_of_one_file(tmp_path):
    failures = []

    def write(n):
        try:
            for _ in range(30):
                write_bytes(tmp_path / "a", bytes([n]) * 100)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
