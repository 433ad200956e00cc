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


def cropping(
    resolution: int, scale: tuple[float, float] = (0.9, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
) -> Augment:
    """The paper's augmentation: open_clip's training transform, torchvision's RandomResizedCrop, bicubic.

    From the prepared picture, R x R, where the authors crop the original: its borders beyond the square are not seen.
    """

    def boxes(n: int, rng: np.random.Generator) -> Tensor:
        """Top, left, height and width of n crops: int64 (4, n); of ten tries the first that lies inside, else the whole."""
        share = rng.uniform(*scale, (10, n))
        stretch = np.exp(rng.uniform(*np.log(ratio), (10, n)))
        width, height = np.round(resolution * np.sqrt([share * stretch, share / stretch])).astype(np.int64)
        inside = (width <= resolution) & (height <= resolution)
        first = inside.argmax(axis=0), np.arange(n)
        width, height = (np.where(inside.any(axis=0), side[first], resolution) for side in (width, height))
        top, left = rng.integers(0, resolution - height + 1), rng.integers(0, resolution - width + 1)
        return torch.from_numpy(np.stack([top, left, height, width]))

    return Augment(boxes, cropped)


def cropped(images: Tensor, boxes: Tensor) -> Tensor:
    """Each picture's box (top, left, height, width), enlarged to the whole, as PIL does it: uint8 (B, 3, R, R) to the same."""
    out = torch.empty_like(images)
    for image, into, (top, left, height, width) in zip(images, out, boxes.T.tolist()):
        box = image[None, :, top : top + height, left : left + width]
        into.copy_(F.interpolate(box, size=image.shape[1:], mode="bicubic", antialias=True)[0])
    return out
