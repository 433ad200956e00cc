"""Fine-tune one task: the domain's weights learn, the head stays frozen (paper §4)."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from tally.data.augment import shifted
from tally.evaluate import Split
from tally.models.clip import Clip, Weights, encode_image
from torch import Tensor


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def batches(n: int, batch: int, steps: int, seed: int):
    """`steps` batches of row numbers: every epoch is a new permutation, and a batch may span two epochs."""
    rng = np.random.default_rng(seed)
    rows = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(rows) < batch:
            rows = np.concatenate([rows, rng.permutation(n)])
        yield torch.from_numpy(rows[:batch])
        rows = rows[batch:]


def finetune(
    base: Weights, clip: Clip, head: Tensor, train: Split, *,
    steps: int, batch: int, lr: float, warmup: int, weight_decay: float, clip_norm: float, seed: int, epsilon: float = 1e-8,
    dtype: torch.dtype = torch.float32, report: Callable[[int, float], None] = lambda step, loss: None,
) -> Weights:  # fmt: skip
    """theta_t: AdamW on all weights of `base` (the domain) for the cross entropy of head(encoder(image)).

    Each image is moved by up to two pixels when it is seen.
    The weights and the optimizer are float32; the products are in `dtype`. Learning rate: warm-up and cosine.
    `head` is float32 (C, E), logit scale included. The same seed gives the same weights on the same machine.
    """
    params = {name: torch.as_tensor(w).clone().requires_grad_() for name, w in base.items()}
    optimizer = torch.optim.AdamW(params.values(), lr=lr, weight_decay=weight_decay, eps=epsilon, fused=True)
    rng = np.random.default_rng([seed, 1])
    for step, rows in enumerate(batches(len(train.labels), batch, steps, seed)):
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate(step, steps, warmup)
        half = {name: w.to(dtype) for name, w in params.items()}
        images = shifted(train.images[rows], rng)
        loss = F.cross_entropy(encode_image(half, clip, images) @ head.T, train.labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
        optimizer.step()
        report(step, loss.item())
    return {name: w.detach() for name, w in params.items()}
