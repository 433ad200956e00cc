"""Files that are whole or absent: atomic writes, JSON, hashes."""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tally.errors import TallyError


@contextmanager
def atomic_file(path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: it takes the real name once complete and on disk, or vanishes."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TallyError(f"disk full while writing {path}; free some space or choose another folder") from None
        raise TallyError(f"cannot write {path}: {error.strerror or error}; check the folder and its rights") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path, content: bytes) -> None:
    """Write a whole file or nothing."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_json(path, value) -> None:
    """Write JSON, indented, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    """One JSON object; TallyError in place of the errors of the file system and the parser."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TallyError(f"{path}: not found; run the step that makes it first") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TallyError(f"{path}: cannot be read as JSON ({error}); delete it and run again") from error
    if not isinstance(record, dict):
        raise TallyError(f"{path}: a JSON object expected; delete it and run again")
    return record


def sha256(path) -> str:
    """Hex digest of a file, or of the digests of a folder's *.safetensors in name order."""
    path = Path(path)
    try:
        if path.is_dir():
            parts = [f"{file.name} {sha256(file)}" for file in sorted(path.glob("*.safetensors"))]
            return hashlib.sha256("\n".join(parts).encode()).hexdigest()
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TallyError(f"cannot read {path}: {error.strerror}") from None
