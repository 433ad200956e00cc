"""The arithmetic of `blocks` in torch, for a GPU: one kernel an operation, so no fused multiply-add and the same bits."""

import re

import numpy as np
import torch
from tally.blocks import differences
from tally.errors import TallyError

__all__ = ["bits", "differences", "get", "histogram", "levels", "low_histogram", "put", "ties", "total"]

PLACE = torch.device("cpu")


def use(device: str) -> None:
    """Choose where `put` brings blocks: cuda or cuda:N. Raises TallyError when there is no such device."""
    global PLACE
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise TallyError(f"unknown device {device!r}; use cpu, cuda or cuda:N")
    if int(device.removeprefix("cuda").lstrip(":") or 0) >= torch.cuda.device_count():
        raise TallyError(f"device {device} is not available here; use device cpu")
    PLACE = torch.device(device)


def put(tau: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tau).to(PLACE)


def get(array: torch.Tensor) -> np.ndarray:
    return array.cpu().numpy()


def bits(tau: torch.Tensor) -> torch.Tensor:
    return tau.view(torch.int32)


def total(tau: torch.Tensor, out: np.ndarray) -> None:
    running = tau[0].clone()
    for row in tau[1:]:
        running += row
    out[:] = running.cpu().numpy()


def levels(tau: torch.Tensor, merged: np.ndarray, lambdas: np.ndarray, strict: bool, out: np.ndarray) -> None:
    target = put(merged)
    for row, scales, level in zip(tau, lambdas, out, strict=True):
        near, far = row.abs(), (target - row).abs()
        count = torch.zeros_like(row, dtype=torch.uint8)
        for scale in scales:
            scaled = far * float(scale)
            count += near > scaled if strict else near >= scaled
        level[:] = count.cpu().numpy()


def ties(tau: torch.Tensor, thresholds: np.ndarray, majority: int, mean: bool, out: np.ndarray) -> tuple[int, int]:
    kept = torch.where(tau.abs() >= put(thresholds)[:, None], tau, 0.0)
    mass, plus, minus, pluses, minuses = (torch.zeros_like(kept[0]) for _ in range(5))
    for row in kept:
        mass += row
        plus += row.clamp(min=0)
        minus += row.clamp(max=0)
        pluses += row > 0
        minuses += row < 0
    positive = (mass > 0) | ((mass == 0) & (majority > 0))
    merged = torch.where(positive, plus, minus)
    if mean:
        merged /= torch.where(positive, pluses, minuses).clamp(min=1)
    out[:] = merged.cpu().numpy()
    signs = int((mass > 0).sum()) - int((mass < 0).sum())
    return signs, int(((mass == 0) & (plus > 0)).sum())


def histogram(bits: torch.Tensor, out: np.ndarray) -> None:
    out += torch.bincount((bits & 0x7FFFFFFF) >> 16, minlength=out.size).cpu().numpy()


def low_histogram(bits: torch.Tensor, high: int, out: np.ndarray) -> None:
    magnitude = bits & 0x7FFFFFFF
    low = magnitude[(magnitude >> 16) == high] & 0xFFFF
    out += torch.bincount(low, minlength=out.size).cpu().numpy()
