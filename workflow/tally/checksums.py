"""Checksums of what tally writes, kept in the files themselves: what changed on the disk since is told, never used.

XXH3, 64 bits, 16 hex digits: as fast as memory is read, and for accidents, not for forgers. They stand behind
`tally_checksum`: in a JSON record that of the whole text; in a safetensors header that of the header, then that of each
tensor in the file's order. A text's own digits count as zeros. Files without that key are read as they are.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np
import xxhash
from tally.errors import TallyError

KEY = "tally_checksum"
WIDTH = 16
BLANK = "0" * WIDTH
DIGITS = re.compile(rf'"{KEY}": ?"([^"]*)"'.encode())

AGAIN = "delete it and run again, or fetch it again"

verify = True  # the command line turns it off


def digest(content) -> str:
    """Checksum of bytes or of an array's bytes in C order."""
    if isinstance(content, np.ndarray):
        content = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
    return xxhash.xxh3_64_hexdigest(content)


def sealed(text: bytes) -> bytes:
    """The text with its checksum in place of the first 16 zeros behind `tally_checksum`."""
    at = DIGITS.search(text).start(1)
    return text[:at] + digest(text).encode() + text[at + WIDTH :]


def check(path, text: bytes) -> list[str]:
    """Compare a text with its checksum; the others behind it, [] if there are none or nothing is verified.

    Raises TallyError, naming `path`, for a text that changed since it was sealed.
    """
    found = DIGITS.search(text) if verify else None
    if found is None:
        return []
    at, digits = found.start(1), found[1]
    if digest(text[:at] + BLANK.encode() + text[at + WIDTH :]).encode() != digits[:WIDTH]:
        raise damaged(path)
    return [digits[i : i + WIDTH].decode() for i in range(WIDTH, len(digits), WIDTH)]


def damaged(path, what: str = "its bytes") -> TallyError:
    return TallyError(f"{path} is damaged: {what} changed since it was written; {AGAIN} (or read it with --no-verify)")


class Verified(Mapping):
    """A file's tensors, each compared with its checksum when it is first touched. `arrays` are the same, not compared."""

    def __init__(self, arrays: Mapping[str, np.ndarray], sums: Mapping[str, tuple[str, str]]):
        """sums: name -> (path, checksum), of those that have one."""
        self.arrays, self.sums = dict(arrays), dict(sums)

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.arrays[name]
        if expected := self.sums.get(name):
            if digest(array) != expected[1]:
                raise damaged(expected[0], f"tensor {name!r}")
            self.sums.pop(name, None)  # another thread may have been here meanwhile
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
