"""Progress of long work: a bar at a terminal, a plain line now and then in a log, and where the seconds went."""

import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

LOG_INTERVAL = 20.0  # seconds between the lines of a log
seconds: dict[str, float] = {}
quiet = False


@dataclass
class Work:
    """A loop that is under way."""

    label: str
    total: int | None
    unit: str
    done: int = 0
    initial: int = 0
    start: float = field(default_factory=time.perf_counter)


loops: list[Work] = []  # outermost first
counted: dict[str, int] = {}


def bar(items: Iterable[T], label: str, total: int | None = None, unit: str = "it", initial: int = 0) -> Iterable[T]:
    """Iterate over items, `initial` being done already: a terminal shows a bar, `heartbeat` a log. Short work, nothing."""
    if not sys.stderr.isatty():
        length = len(items) if total is None and hasattr(items, "__len__") else total
        return _watched(items, Work(label, length, unit, initial, initial))
    from tqdm import tqdm

    return tqdm(
        items, desc=label, total=total, unit=unit, initial=initial, disable=quiet, delay=2, leave=False, mininterval=0.2,
        dynamic_ncols=True,
    )  # fmt: skip


def _watched(items: Iterable[T], work: Work) -> Iterator[T]:
    loops.append(work)
    try:
        for item in items:
            yield item
            work.done += 1
    finally:
        loops.remove(work)


def count(number: int, unit: str) -> None:
    """Add to what the lines of a log report, for work whose end is not known: a search that may stop early."""
    counted[unit] = counted.get(unit, 0) + number


@contextmanager
def heartbeat(name: str) -> Iterator[None]:
    """While the block runs, say on stderr every LOG_INTERVAL seconds how far it is. A terminal has its bars instead."""
    if quiet or sys.stderr.isatty():
        yield
        return
    start, over = time.perf_counter(), threading.Event()
    counted.clear()

    def lines():
        while not over.wait(LOG_INTERVAL):
            if not quiet:  # one of several processes learns late that it is to be
                print(line(name, time.perf_counter() - start), file=sys.stderr, flush=True)

    thread = threading.Thread(target=lines, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def line(name: str, elapsed: float) -> str:
    """One line of a log: the innermost loop, or what was counted; the time; the largest memory so far."""
    if loops:
        work = loops[-1]
        unit = work.unit if work.unit == "%" else f"{work.unit}s"
        name, how_far = work.label, f"{work.done}{f' of {work.total}' if work.total else ''} {unit}, "
        new = work.done - work.initial
        if work.total and new:
            left = (time.perf_counter() - work.start) / new * (work.total - work.done)
            how_far += f"about {left:.0f} s left, "
    else:
        how_far = "".join(f"{number} {unit}, " for unit, number in counted.items())
    return f"{name}: {how_far}{elapsed:.0f} s gone, {peak():.0f} MB at most"


def peak() -> float:
    """Largest resident set of this process, or of one that it waited for, MB."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def spent(elapsed: float) -> str:
    """The last line of a job's log, which `tally.summary` reads."""
    parts = {"all": elapsed} | seconds
    return f"seconds: {', '.join(f'{kind} {value:.2f}' for kind, value in parts.items())}; {peak():.0f} MB at most"


@contextmanager
def timed(kind: str) -> Iterator[None]:
    """Add the block's wall time to `seconds[kind]`; the command line reports it at the end."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[kind] = seconds.get(kind, 0.0) + time.perf_counter() - start
