"""The processes that train one model together: each takes its share of every batch, and gradients are added up.

Not DistributedDataParallel, which wraps a module and there is none here: the model is a function of a dict of weights,
and adding the gradients of that dict is all it would do.
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.distributed as dist
from tally.accelerators import take_for_ranks
from tally.errors import TallyError
from torch import Tensor
from torch.multiprocessing import _prctl_pr_set_pdeathsig as signal_when_parent_dies


class Ranks(NamedTuple):
    """This process's number and how many there are. All draw the same random numbers and hold the same weights."""

    rank: int = 0
    world: int = 1

    def parts(self, batch: int, accumulate: int = 1) -> list[slice]:
        """Which rows of a batch this process computes, in `accumulate` pieces whose sizes differ by one at most.

        TallyError if there are no pieces, or more than rows.
        """
        pieces = self.world * accumulate
        if not 1 <= pieces <= batch:
            what = f"{self.world} processes x {accumulate} pieces"
            raise TallyError(f"a batch of {batch} cannot be cut into {what}; accumulate 1 to {batch // self.world}")
        first = self.rank * accumulate
        edges = [batch * i // pieces for i in range(first, first + accumulate + 1)]
        return [slice(*ends) for ends in pairwise(edges)]

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in place; the sums are the same bits everywhere."""
        if self.world > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def totals(self, *values: int) -> list[int]:
        """Each value summed over the processes."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(tensor)
        return tensor.tolist()


ALONE = Ranks()


def multiply(processes: int, device: str) -> None:
    """Become torchrun with so many processes of this command line and a GPU for each, unless torchrun runs already.

    TallyError for a device that is one alone, and for more processes than GPUs.
    """
    if processes > 1 and (device == "mps" or ":" in device):
        raise TallyError(f"{processes} processes cannot share device {device}; use cuda or cpu, or one process")
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        take_for_ranks(device, processes)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        os.execv(sys.executable, [sys.executable, *torchrun, "-m", "tally", *sys.argv[1:]])


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, by nccl on GPUs and gloo elsewhere; alone without torchrun.

    If torchrun is killed they get SIGTERM (on Linux), for it held the leases on their GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield ALONE
        return
    signal_when_parent_dies(signal.SIGTERM)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # nccl talks through the current one
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()
