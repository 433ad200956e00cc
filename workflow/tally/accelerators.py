"""The device that computes, and a lease on it: processes on a machine with several GPUs take different ones.

Snakemake counts GPUs but does not number them, so the jobs of one machine would all start on the first.
"""

import fcntl
import os
import re
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tally.errors import TallyError

if TYPE_CHECKING:
    import torch

FOLDER = Path(f"/tmp/tally-devices-{os.getuid()}")
HELD: list[int] = []  # open files; the kernel unlocks them when the process ends, however it ends
LEASED = "TALLY_LEASED"  # set for ranks whose devices are held by the process that starts them


def take(name: str) -> "torch.device":
    """The device that `name` means; a GPU belongs to this process alone until it ends, and is waited for.

    auto is a GPU if there is one, else mps, else cpu; cuda is any GPU that is free, cuda:N that one.
    Raises TallyError for other names and for devices that are not here.
    """
    import torch

    kind, numbers = _meant(name)
    if kind != "cuda":
        return torch.device(kind)
    if LEASED in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cuda", _lease(numbers)[0])


def take_for_ranks(name: str, processes: int) -> None:
    """GPUs for all processes of a training, which then see no others; nothing for other devices.

    All at once, for two trainings that each held a part would wait for each other. They stay held when this process becomes
    torchrun.
    """
    kind, numbers = _meant(name)
    if kind == "cuda":
        seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, numbers))
        held = _lease(numbers, processes)
        os.environ |= {LEASED: "1", "CUDA_VISIBLE_DEVICES": ",".join(seen.split(",")[n] for n in held)}
        for file in HELD:
            os.set_inheritable(file, True)


def _meant(name: str) -> tuple[str, Sequence[int]]:
    """cpu, mps or cuda, and the numbers of the GPUs that may be taken."""
    import torch

    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise TallyError(f"unknown device {name}; use auto, cpu, cuda, cuda:N or mps")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if not {"cpu": True, "mps": mps, "cuda": cuda}[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise TallyError(f"device {name} is not available here; use device auto or cpu")
    return kind, [int(number)] if number else range(torch.cuda.device_count())


def _lease(numbers: Sequence[int], processes: int = 1) -> list[int]:
    """The numbers of so many of these GPUs."""
    import torch

    # by what is printed on the GPU, for a job may see a part of the machine's, numbered from 0
    serials = {str(torch.cuda.get_device_properties(n).uuid): n for n in numbers}
    return [serials[serial] for serial in lease(list(serials), FOLDER, processes)]


def lease(devices: Sequence[str], folder: Path, processes: int = 1, poll: float = 0.5) -> list[str]:
    """The first of `devices` that no other process holds, one a process, held until this process ends; waits for them.

    A lock file in `folder` stands for each: a process that is killed lets go of it. While it waits it holds none.
    Raises TallyError if there are fewer devices than processes.
    """
    if processes > len(devices):
        raise TallyError(f"{processes} processes want a GPU each, and here are {len(devices)}; use no more processes")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in count():
        turn = _lock(folder / "turn", fcntl.LOCK_EX)  # one looks at a time: two could take what the other lacks
        held: dict[str, int] = {}
        for device in devices:
            file = _lock(folder / f"{device}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) if len(held) < processes else None
            if file is not None:
                held[device] = file
        if len(held) == processes:
            HELD.extend(held.values())
            os.close(turn)
            return list(held)
        for file in (*held.values(), turn):
            os.close(file)
        if attempt == 0:
            print(f"note: waits for {processes} free of {len(devices)} devices", file=sys.stderr)
        time.sleep(poll)


def _lock(path: Path, how: int) -> int | None:
    """The open file, locked; None if it is not to be waited for and another process has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        os.close(file)
        return None
    return file
