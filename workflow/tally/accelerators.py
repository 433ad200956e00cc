"""The device that computes, and a lease on it: processes on a machine with several GPUs take different ones.

Snakemake counts GPUs but does not number them, so the jobs of one machine would all start on the first.
"""

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

HELD: list[int] = []  # open files; the kernel unlocks them when the process ends, however it ends


def take(name: str) -> "torch.device":
    """The device that `name` means; a GPU belongs to this process alone until it ends, and is waited for.

    auto is a GPU if there is one, else mps, else cpu; cuda is any GPU that is free, cuda:N that one.
    Raises TallyError for other names and for devices that are not here.
    """
    import torch

    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise TallyError(f"unknown device {name}; use auto, cpu, cuda, cuda:N or mps")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    if not {"cpu": True, "mps": mps, "cuda": cuda}[kind] or (number and int(number) >= torch.cuda.device_count()):
        raise TallyError(f"device {name} is not available here; use device auto or cpu")
    if kind != "cuda":
        return torch.device(kind)
    # by what is printed on the GPU, for a job may see a part of the machine's, numbered from 0
    numbers = [int(number)] if number else range(torch.cuda.device_count())
    serials = {str(torch.cuda.get_device_properties(n).uuid): n for n in numbers}
    return torch.device("cuda", serials[lease(list(serials), Path(f"/tmp/tally-devices-{os.getuid()}"))])


def lease(devices: Sequence[str], folder: Path, poll: float = 0.5) -> str:
    """The first of `devices` that no other process holds, held until this process ends; waits for one.

    A lock file in `folder` stands for each: a process that is killed lets go of it.
    """
    import fcntl

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in count():
        for device in devices:
            file = os.open(folder / f"{device}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            HELD.append(file)
            return device
        if attempt == 0:
            print(f"note: waits for a free device of {len(devices)}", file=sys.stderr)
        time.sleep(poll)
