"""Task arithmetic (Ilharco et al. 2023): tau_mtl = sum over t of tau_t. Weight averaging is the same with alpha = 1 / T."""

import numpy as np


def prepare(vectors, keep: float, frozen: int, **walking) -> None:
    """Nothing has to be known of whole vectors."""


def block(ops, tau, state: None, majority: int, out: np.ndarray) -> tuple[int, int]:
    """out = tau[0] + tau[1] + ... in float32, tasks in sorted order."""
    ops.total(tau, out)
    return 0, 0
