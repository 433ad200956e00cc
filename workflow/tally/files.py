"""Files that are whole or absent: atomic writes, JSON, hashes."""

import errno
import fcntl
import glob
import hashlib
import json
import mmap
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from tally import checksums
from tally.errors import TallyError


@contextmanager
def atomic_file(path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: it takes the real name once complete and on disk, or vanishes.

    A process that was killed leaves its temporary file behind; the next to write `path` removes it.
    """
    path = Path(path)
    with _claimed(path, folder=False) as (temporary, descriptor):
        yield temporary
        os.fsync(descriptor)
        os.replace(temporary, path)


@contextmanager
def atomic_folder(path) -> Iterator[Path]:
    """The same for a folder of files: it takes the real name, in place of a folder that had it, once all of it is written."""
    path = Path(path)
    with _claimed(path, folder=True) as (temporary, _):
        yield temporary
        for name in os.listdir(temporary):
            descriptor = os.open(temporary / name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        if path.is_dir():  # a folder cannot be exchanged in one step: for a moment there is none, but never half of one
            old = _temporary(path, secrets.token_hex(4))
            os.rename(path, old)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)


@contextmanager
def _claimed(path: Path, folder: bool) -> Iterator[tuple[Path, int]]:
    """A temporary file or folder for `path` and its descriptor; gone at the end if it still has that name."""
    temporary, descriptor = None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary, descriptor = _claim(path, folder)
        yield temporary, descriptor
    except OSError as error:
        raise not_written(path, error) from None
    finally:
        if descriptor is not None:
            _remove(temporary)
            os.close(descriptor)


def reserve(file: int, size: int) -> mmap.mmap:
    """Map an empty file as `size` zeros. A full disk is an error here, not a crash while the map is being filled."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
    return mmap.mmap(file, size)  # unmapped when the last view of it is gone


def not_written(path, error: OSError) -> TallyError:
    """What to say of a file that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TallyError(f"disk full while writing {path}; free some space or choose another folder")
    return TallyError(f"cannot write {path}: {error.strerror or error}; check the folder and its rights")


# A writer holds the lock of its temporary file, which the system releases when it dies, however it dies: who gets the
# lock may remove the file. Locks are sure among the processes of one running system only, hence its name in the file's.
def _temporary(path: Path, token: str) -> Path:
    return path.with_name(f".{path.name}.{_system()}.{token}.tmp")


@cache
def _system() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip().replace("-", "")[:16] if boot.exists() else socket.gethostname()


def _claim(path: Path, folder: bool) -> tuple[Path, int]:
    """A new temporary file or folder and its descriptor, which holds its lock."""
    while True:
        temporary = _temporary(path, secrets.token_hex(4))
        if folder:
            temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a disk without locks: a name that is never swept
            temporary = temporary.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp"))
        if _names(temporary, descriptor):
            return temporary, descriptor
        os.close(descriptor)  # swept between the two calls


def _sweep(path: Path) -> None:
    """Remove the temporary files and folders of `path` whose writers are dead."""
    head, tail = _temporary(path, "|").name.split("|")
    for stale in path.parent.glob(f"{glob.escape(head)}????????{tail}"):
        with suppress(OSError):
            descriptor = os.open(stale, os.O_RDONLY if stale.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _names(stale, descriptor):
                    _remove(stale)
            finally:
                os.close(descriptor)


def _remove(temporary: Path) -> None:
    """Whatever is left of a temporary file or folder."""
    with suppress(OSError):
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink()


def _names(path: Path, descriptor: int) -> bool:
    """Whether the path names the open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


def write_bytes(path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, value) -> None:
    """Write JSON, indented, atomically; an object bears its checksum as its last key."""
    if isinstance(value, dict):
        value = value | {checksums.KEY: checksums.BLANK}
    text = (json.dumps(value, indent=1) + "\n").encode()
    write_bytes(path, checksums.sealed(text) if isinstance(value, dict) else text)


def read_json(path: Path) -> dict:
    """One JSON object without its checksum; TallyError if that tells damage, or the file system or the parser fail."""
    try:
        text = path.read_bytes()
        checksums.check(path, text)
        record = json.loads(text)
    except FileNotFoundError as error:
        raise TallyError(f"{path}: not found; run the step that makes it first") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TallyError(f"{path}: cannot be read as JSON ({error}); delete it and run again") from error
    if not isinstance(record, dict):
        raise TallyError(f"{path}: a JSON object expected; delete it and run again")
    record.pop(checksums.KEY, None)
    return record


def sha256(path, read: Callable[[int], object] | None = None) -> str:
    """Hex digest of a file, or of the digests of a folder's *.safetensors in name order; `read` is told of bytes read."""
    path, digest = Path(path), hashlib.sha256()
    try:
        if path.is_dir():
            parts = [f"{file.name} {sha256(file, read)}" for file in sorted(path.glob("*.safetensors"))]
            return hashlib.sha256("\n".join(parts).encode()).hexdigest()
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
                if read:
                    read(len(piece))
        return digest.hexdigest()
    except OSError as error:
        raise TallyError(f"cannot read {path}: {error.strerror}") from None


def size(path) -> int:
    """How many bytes `sha256` reads of a file or folder."""
    path = Path(path)
    return sum(file.stat().st_size for file in (path.glob("*.safetensors") if path.is_dir() else [path]))
