"""Batches that are ready before they are asked for: a GPU does not wait while rows are gathered, changed and copied."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def ahead(
    batches: Iterable[T], device: torch.device | str, bring: Callable[[T, Callable[[Tensor], Tensor]], T]
) -> Iterator[T]:
    """The batches as they are; on CUDA made by a thread, one ahead, and brought there from pinned memory.

    `bring(batch, move)` is the batch with `move` applied to the tensors that the device reads.
    """
    if torch.device(device).type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)

    def moved():
        for batch in batches:
            with torch.cuda.stream(stream):
                batch = bring(batch, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
            yield batch, stream.record_event()

    now = torch.cuda.current_stream(device)
    for batch, copied in one_ahead(moved()):
        now.wait_event(copied)
        bring(batch, lambda tensor: tensor.record_stream(now) or tensor)  # its memory is used on this stream too
        yield batch


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The items in their order; the next is made by a thread while one is worked with. An error comes in its turn."""
    waiting, over = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, waiting, over)
        while (item := following.result()) is not over:
            following = thread.submit(next, waiting, over)
            yield item
