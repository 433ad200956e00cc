"""Progress of long work: a bar at a terminal, a line now and then in a log, and where the seconds went."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

LOG_INTERVAL = 20.0  # seconds between the lines of a log
seconds: dict[str, float] = {}
quiet = False


def bar(items: Iterable[T], label: str, total: int | None = None, unit: str = "it", initial: int = 0) -> Iterable[T]:
    """Iterate over items and show how far it is, `initial` being done already; short work shows nothing."""
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    return tqdm(
        items, desc=label, total=total, unit=unit, initial=initial, disable=quiet, delay=2, leave=not terminal, ascii=not terminal,
        mininterval=0.2 if terminal else LOG_INTERVAL, dynamic_ncols=terminal,
    )  # fmt: skip


@contextmanager
def timed(kind: str) -> Iterator[None]:
    """Add the block's wall time to `seconds[kind]`; the command line reports it at the end."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[kind] = seconds.get(kind, 0.0) + time.perf_counter() - start
