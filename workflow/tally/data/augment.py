"""What training does to its pictures on the fly."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 2


class Augment(NamedTuple):
    """A change of inputs in two steps, so that a whole batch is drawn before its pieces are changed."""

    draw: Callable[[int, np.random.Generator], Tensor]  # how to change n inputs: (..., n)
    apply: Callable[[Tensor, Tensor], Tensor]  # inputs, and what was drawn for them


def shifts(n: int, rng: np.random.Generator) -> Tensor:
    """How far to move n pictures down and right: int64 (2, n), 0 to 4; 2 leaves a picture where it is."""
    return torch.from_numpy(rng.integers(0, 2 * PIXELS + 1, (2, n)))


def shifted(images: Tensor, by: Tensor) -> Tensor:
    """Move each picture by up to two pixels in both directions, its edge repeated: uint8 (B, 3, R, R) to the same."""
    n, _, size, _ = images.shape
    padded = F.pad(images.float(), (PIXELS,) * 4, mode="replicate").to(torch.uint8).permute(0, 2, 3, 1)
    dy, dx = by
    span = torch.arange(size)
    ys, xs = dy[:, None, None] + span[:, None], dx[:, None, None] + span[None, :]  # (B, R, 1), (B, 1, R)
    return padded[torch.arange(n)[:, None, None], ys, xs].permute(0, 3, 1, 2)  # (B, 3, R, R)


MOVED = Augment(shifts, shifted)
