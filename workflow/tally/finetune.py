"""Fine-tune one task: the domain's weights learn, the head stays frozen (paper §4)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tally.data.augment import Augment
from tally.evaluate import Split
from tally.models.base import NOTHING, Model
from tally.models.clip import Weights
from tally.prefetch import ahead
from tally.ranks import ALONE, Ranks
from torch import Tensor


class Snapshot(NamedTuple):
    """A training between two steps: all that the next step depends on, beside what the training is made from."""

    step: int  # steps done
    tensors: dict[str, Tensor]  # theta/<name> and AdamW's <key>/<name> in float32; rows, the rest of the epoch, int64
    streams: dict[str, dict]  # states of numpy's generators, and of the scale of float16's gradients


class Order:
    """Row numbers in the order of training: every epoch is a new permutation, and a batch may span two epochs."""

    def __init__(self, n: int, seed: int):
        self.n, self.rng, self.rows = n, np.random.default_rng(seed), np.empty(0, dtype=np.int64)

    def take(self, batch: int) -> Tensor:
        """The next rows: int64 (batch,)."""
        while len(self.rows) < batch:
            self.rows = np.concatenate([self.rows, self.rng.permutation(self.n)])
        rows, self.rows = self.rows[:batch], self.rows[batch:]
        return torch.from_numpy(rows)


class Batch(NamedTuple):
    """What a step computes, and where order and random numbers are after it."""

    pieces: list[tuple[Tensor, Tensor]]  # inputs and labels, one after the other
    rows: np.ndarray  # the rest of the epoch, int64
    streams: dict[str, dict]  # states of numpy's generators


def batches(
    train: Split, order: Order, rng: np.random.Generator, augment: Augment | None, size: int, parts: Sequence[slice], steps: int
) -> Iterator[Batch]:  # fmt: skip
    """The next `steps` batches of `size` rows, in pieces `parts`; the whole batch is drawn, whatever the pieces."""
    for _ in range(steps):
        rows, drawn = order.take(size), augment.draw(size, rng) if augment else None
        pieces = []
        for part in parts:
            inputs = train.inputs[rows[part]]
            inputs = augment.apply(inputs, drawn[..., part]) if augment else inputs
            pieces.append((inputs, train.labels[rows[part]]))
        yield Batch(pieces, order.rows, {"order": order.rng.bit_generator.state, "shifts": rng.bit_generator.state})


def learning_rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def loss_of(
    weights: Weights, model: Model, head: Tensor, inputs: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Mean cross entropy of head(encoder(inputs)), products in `dtype`; inputs and labels come to the head's device."""
    half = {name: w.to(dtype) for name, w in weights.items()}
    return F.cross_entropy(model.encode(half, inputs) @ head.T, labels.to(head.device))


def finetune(
    base: Weights, model: Model, head: Tensor, train: Split, *, frozen: Mapping[str, Tensor] = NOTHING,
    steps: int, batch: int, lr: float, warmup: int, weight_decay: float, clip_norm: float, seed: int, epsilon: float = 1e-8,
    accumulate: int = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", ranks: Ranks = ALONE,
    start: Snapshot | None = None, report: Callable[[int, float], None] = lambda step, loss: None,
    keep: Callable[[Callable[[], Snapshot]], None] = lambda snapshot: None,
) -> Weights:  # fmt: skip
    """theta_t: AdamW on all weights of `base` (the domain) for the cross entropy of head(encoder(inputs)).

    `frozen` are the other weights that the encoder reads. Inputs are changed by `model.augment` whenever they are seen.
    The weights and the optimizer are float32; the products are in `dtype`, float16 with scaled gradients, where a step
    whose gradients overflow is left out. Learning rate: warm-up and cosine.
    `head` is float32 (C, E), logit scale included. The same seed gives the same weights on the same machine.

    The batch of a step is computed in `accumulate` pieces by each of `ranks`; every rank draws the rows and the changes of
    the whole batch, so that they depend neither on the number of processes nor on that of pieces.
    `keep` is called after each step with a function that makes a Snapshot; a training that starts from it ends with
    the same weights, on a CPU bit for bit. Returns float32 on the CPU.
    """
    parts = ranks.parts(batch, accumulate)
    params = {name: torch.as_tensor(w).to(device, copy=True).requires_grad_() for name, w in base.items()}
    head, frozen = head.to(device), {name: w.to(device, dtype) for name, w in frozen.items()}
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=dtype == torch.float16)
    optimizer = torch.optim.AdamW(params.values(), lr=lr, weight_decay=weight_decay, eps=epsilon, fused=True)
    order, rng = Order(len(train.labels), seed), np.random.default_rng([seed, 1])
    if start is not None:
        restore(start, params, optimizer, scaler, order, rng)
    first = start.step if start else 0
    seen = ahead(batches(train, order, rng, model.augment, batch, parts, steps - first), device, moved)
    for step, now in enumerate(seen, first):
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate(step, steps, warmup)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for inputs, labels in now.pieces:
            # exactly 1 for a whole batch: a training in one piece has the bits that it always had
            share = len(labels) / batch
            loss = loss_of(frozen | params, model, head, inputs, labels, dtype) * share
            scaler.scale(loss).backward()
            total += loss.detach()
        ranks.add([*(w.grad for w in params.values()), total])
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
        scaler.step(optimizer)
        scaler.update()
        report(step, total.item())
        keep(lambda done=step + 1, now=now: snapshot(done, params, optimizer, scaler, now))
    return {name: w.detach().cpu() for name, w in params.items()}


def moved(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """A batch whose tensors were moved."""
    return batch._replace(pieces=[(move(inputs), move(labels)) for inputs, labels in batch.pieces])


def snapshot(
    step: int, params: Weights, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, last: Batch
) -> Snapshot:
    """The state after `step` steps, of which `last` was the last; its tensors are views where they lie on the CPU."""
    state = optimizer.state_dict()["state"]
    tensors = {f"theta/{name}": w.detach().cpu() for name, w in params.items()}
    for i, name in enumerate(params):
        tensors |= {f"{key}/{name}": value.cpu() for key, value in state[i].items()}
    tensors["rows"] = torch.from_numpy(last.rows)
    return Snapshot(step, tensors, last.streams | ({"scaler": scaler.state_dict()} if scaler.is_enabled() else {}))


def restore(
    start: Snapshot, params: Weights, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, order: Order, rng
) -> None:
    """Put a snapshot's state in place."""
    state: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(params))}
    place = {name: i for i, name in enumerate(params)}
    for label, value in start.tensors.items():
        key, _, name = label.partition("/")
        if key == "theta":
            params[name].data.copy_(value)
        elif name:
            state[place[name]][key] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    order.rows = start.tensors["rows"].numpy()
    order.rng.bit_generator.state, rng.bit_generator.state = start.streams["order"], start.streams["shifts"]
    if scaler.is_enabled():
        scaler.load_state_dict(start.streams["scaler"])
