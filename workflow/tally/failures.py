"""Which jobs of a run failed, and the log of each that tells why."""

import re
from collections.abc import Iterator
from pathlib import Path

# a group's block holds a block for each of its jobs, also of those that did not fail
BLOCK = re.compile(r"^(?:Error in rule (\S+):|    message: Error in group (\S+))\n((?:[ \t]+.*\n?)*)", re.MULTILINE)
LOGS = re.compile(r"^ +log: (.*) \(check log file", re.MULTILINE)


def failed(log: Path) -> list[tuple[str, Path]]:
    """Name and log of every job that a log of Snakemake says failed, each log once, in the order they failed.

    A scheduler's log of a job is a log of Snakemake too: the job's own is found through it. Only where it names
    none, for it ended with the job (memory, time), it is itself the one that tells why.
    """
    found: dict[Path, str] = {}
    for name, path in _failed(log, {log}):
        found[path] = name
    return [(name, path) for path, name in found.items()]


def _failed(log: Path, above: set[Path]) -> Iterator[tuple[str, Path]]:
    for rule, group, block in BLOCK.findall(log.read_text(errors="replace")):
        named = [Path(part) for line in LOGS.findall(block) for part in line.split(", ")]
        written = [path for path in named if path.is_file() and path.stat().st_size and path not in above]
        inner = [pair for path in written for pair in _failed(path, above | {path})]
        # of a group that was ended from outside: the scheduler's log, and that of the job it was at
        yield from inner or [
            (rule or group, path) for path in sorted(written, key=lambda path: path.stat().st_mtime)[-2:]
        ]


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log that are not empty."""
    return [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-lines:]
