"""Fine-tune one task: the domain's weights learn, the head stays frozen (paper §4)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tally.data.augment import Augment
from tally.evaluate import Split
from tally.models.base import NOTHING, Model, Terms
from tally.models.clip import Weights
from tally.prefetch import ahead
from tally.ranks import ALONE, Ranks
from torch import Tensor


class Snapshot(NamedTuple):
    """A training between two steps: all that the next step depends on, beside what the training is made from."""

    step: int  # steps done
    tensors: dict[str, Tensor]  # theta/<name> and AdamW's <key>/<name> in float32; rows, the rest of the epoch, int64
    streams: dict[str, dict]  # states of numpy's generators, and of the scale of float16's gradients


class Stopping(NamedTuple):
    """When a training ends before its last step, and with which weights: the best of those that were examined."""

    score: Callable[[Weights], int]  # of the domain's weights, more is better
    check: int  # examined whenever so many steps are done
    patience: int  # so many times without a better one, and it ends


class Best(NamedTuple):
    """The best weights that were examined so far, the first of equals."""

    score: int = -1
    worse: int = 0  # examined since
    weights: Mapping[str, Tensor] = NOTHING

    def examine(self, stopping: Stopping, params: Weights, ranks: Ranks) -> "Best":
        """Rank 0 examines for all."""
        theta = {name: w.detach() for name, w in params.items()}
        (score,) = ranks.totals(stopping.score(theta) if ranks.rank == 0 else 0)
        if score <= self.score:
            return self._replace(worse=self.worse + 1)
        return Best(score, 0, {name: w.clone() for name, w in theta.items()})


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
    shares: list[float]  # of the pieces in the whole batch's mean loss
    rows: np.ndarray  # the rest of the epoch, int64
    streams: dict[str, dict]  # states of numpy's generators


def batches(
    train: Split, order: Order, rng: np.random.Generator, augment: Augment | None, size: int, parts: Sequence[slice], steps: int,
    terms: Terms | None = None,
) -> Iterator[Batch]:  # fmt: skip
    """The next `steps` batches of `size` rows, in pieces `parts`; the whole batch is drawn, whatever the pieces."""
    for _ in range(steps):
        rows, drawn = order.take(size), augment.draw(size, rng) if augment else None
        counts = terms(train.inputs[rows], train.labels[rows]) if terms else torch.ones(size, dtype=torch.int64)
        pieces = []
        for part in parts:
            inputs = train.inputs[rows[part]]
            inputs = augment.apply(inputs, drawn[..., part]) if augment else inputs
            pieces.append((inputs, train.labels[rows[part]]))
        # exactly 1 for a whole batch: a training in one piece has the bits that it always had
        shares = [int(counts[part].sum()) / int(counts.sum()) for part in parts]
        yield Batch(
            pieces, shares, order.rows, {"order": order.rng.bit_generator.state, "shifts": rng.bit_generator.state}
        )


def learning_rate(step: int, steps: int, warmup: int, schedule: str = "cosine") -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 0, or all of it to the end ("constant")."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def loss_of(
    weights: Weights, model: Model, head: Tensor, inputs: Tensor, labels: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Mean cross entropy of head(encoder(inputs)), or the model's own loss, products in `dtype`.

    Inputs and labels come to the head's device.
    """
    half = {name: w.to(dtype) for name, w in weights.items()}
    if model.loss is not None:
        return model.loss(half, inputs, labels)
    return F.cross_entropy(model.encode(half, inputs) @ head.T, labels.to(head.device))


def finetune(
    base: Weights, model: Model, head: Tensor, train: Split, *, frozen: Mapping[str, Tensor] = NOTHING,
    steps: int, batch: int, lr: float, warmup: int, weight_decay: float, clip_norm: float, seed: int, epsilon: float = 1e-8,
    accumulate: int = 1, schedule: str = "cosine", stopping: Stopping | None = None,
    dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", ranks: Ranks = ALONE,
    start: Snapshot | None = None, report: Callable[[int, float], None] = lambda step, loss: None,
    keep: Callable[[Callable[[], Snapshot]], None] = lambda snapshot: None,
) -> Weights:  # fmt: skip
    """theta_t: AdamW on all weights of `base` (the domain) for the cross entropy of head(encoder(inputs)), or `model.loss`.

    `frozen` are the other weights that the encoder reads. Inputs are changed by `model.augment` whenever they are seen.
    The weights and the optimizer are float32; the products are in `dtype`, float16 with scaled gradients, where a step
    whose gradients overflow is left out. Learning rate: warm-up and `schedule`.
    `head` is float32 (C, E), logit scale included. The same seed gives the same weights on the same machine.

    The batch of a step is computed in `accumulate` pieces by each of `ranks`; every rank draws the rows and the changes of
    the whole batch, so that they depend neither on the number of processes nor on that of pieces.
    With `stopping` it may end early, and the best weights that were examined are returned, if any were.
    `keep` is called after each step with a function that makes a Snapshot; a training that starts from it ends with
    the same weights, on a CPU bit for bit. Returns float32 on the CPU.
    """
    parts = ranks.parts(batch, accumulate)
    params = {name: torch.as_tensor(w).to(device, copy=True).requires_grad_() for name, w in base.items()}
    head, frozen = head.to(device), {name: w.to(device, dtype) for name, w in frozen.items()}
    scaler = torch.amp.GradScaler(torch.device(device).type, enabled=dtype == torch.float16)
    optimizer = torch.optim.AdamW(params.values(), lr=lr, weight_decay=weight_decay, eps=epsilon, fused=True)
    order, rng = Order(len(train.labels), seed), np.random.default_rng([seed, 1])
    best = restore(start, params, optimizer, scaler, order, rng) if start else Best()
    first = start.step if start else 0
    seen = ahead(batches(train, order, rng, model.augment, batch, parts, steps - first, model.terms), device, moved)
    for step, now in enumerate(seen, first):
        if stopping and best.worse == stopping.patience:
            break
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate(step, steps, warmup, schedule)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for (inputs, labels), share in zip(now.pieces, now.shares):
            loss = loss_of(frozen | params, model, head, inputs, labels, dtype) * share
            scaler.scale(loss).backward()
            total += loss.detach()
        ranks.add([*(w.grad for w in params.values()), total])
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(params.values(), clip_norm)
        scaler.step(optimizer)
        scaler.update()
        report(step, total.item())
        if stopping and (step + 1) % stopping.check == 0:
            best = best.examine(stopping, params, ranks)
        keep(lambda done=step + 1, now=now, best=best: snapshot(done, params, optimizer, scaler, now, best))
    return {name: w.detach().cpu() for name, w in (best.weights or params).items()}


def moved(batch: Batch, move: Callable[[Tensor], Tensor]) -> Batch:
    """A batch whose tensors were moved."""
    return batch._replace(pieces=[(move(inputs), move(labels)) for inputs, labels in batch.pieces])


def snapshot(
    step: int, params: Weights, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, last: Batch, best: Best
) -> Snapshot:
    """The state after `step` steps, of which `last` was the last; its tensors are views where they lie on the CPU."""
    state = optimizer.state_dict()["state"]
    tensors = {f"theta/{name}": w.detach().cpu() for name, w in params.items()}
    for i, name in enumerate(params):
        tensors |= {f"{key}/{name}": value.cpu() for key, value in state[i].items()}
    tensors["rows"] = torch.from_numpy(last.rows)
    if best.weights:
        tensors |= {f"best/{name}": w.cpu() for name, w in best.weights.items()}
        tensors["examined"] = torch.tensor([best.score, best.worse])
    return Snapshot(step, tensors, last.streams | ({"scaler": scaler.state_dict()} if scaler.is_enabled() else {}))


def restore(
    start: Snapshot, params: Weights, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, order: Order, rng
) -> Best:
    """Put a snapshot's state in place; returns the best weights so far."""
    state: dict[int, dict[str, Tensor]] = {i: {} for i in range(len(params))}
    place, best = {name: i for i, name in enumerate(params)}, {}
    for label, value in start.tensors.items():
        key, _, name = label.partition("/")
        if key == "theta":
            params[name].data.copy_(value)
        elif key == "best":
            best[name] = value.to(params[name].device)
        elif name:
            state[place[name]][key] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    order.rows = start.tensors["rows"].numpy()
    order.rng.bit_generator.state, rng.bit_generator.state = start.streams["order"], start.streams["shifts"]
    if scaler.is_enabled():
        scaler.load_state_dict(start.streams["scaler"])
    return Best(*start.tensors["examined"].tolist(), best) if best else Best()
