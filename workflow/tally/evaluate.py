"""Count what a model gets right. Counts, never percentages: tables compute those, with their intervals."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tally.checkpoints import Checkpoint, open_checkpoint
from tally.models.base import NOTHING, Model
from tally.models.clip import Weights
from tally.prefetch import ahead
from tally.progress import count
from tally.selection import choose_alpha
from tally.statistics import pack_hits
from torch import Tensor


class Split(NamedTuple):
    """One split of a task: inputs of the model's encoder (N, ...), images uint8 (N, 3, R, R); labels int64 (N,)."""

    inputs: Tensor
    labels: Tensor


def load_split(data: Path, split: str) -> Split:
    """One split of a prepared task file. Its inputs are a read-only memory map: a batch is read when it is touched."""
    file = open_checkpoint(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor will it be written to
        return Split(torch.from_numpy(file[f"{split}.inputs"]), torch.from_numpy(file[f"{split}.labels"].copy()))


def tensors(file: Checkpoint, prefixes: tuple[str, ...] = ("",)) -> Weights:
    """The weights of a checkpoint whose names begin with one of `prefixes`, float32."""
    return {name: torch.from_numpy(np.array(file.float32(name))) for name in file.names if name.startswith(prefixes)}


class Examiner(NamedTuple):
    """What it takes to examine weights: the model, the arithmetic's dtype, the batch, the device, the frozen weights."""

    model: Model
    dtype: torch.dtype = torch.float32
    batch: int = 256
    device: torch.device | str = "cpu"
    frozen: Mapping[str, Tensor] = NOTHING  # as they are computed with

    def cast(self, weights: Mapping[str, Any]) -> Weights:
        """The domain's weights, and the frozen ones, as tensors of the arithmetic's dtype on its device."""
        return dict(self.frozen) | {name: torch.as_tensor(w).to(self.device, self.dtype) for name, w in weights.items()}

    def margins(self, weights: Weights, inputs: Tensor, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Logit of the label minus the best other logit, float32 (N,), of one batch; above 0 is a correct answer.

        `weights` as `cast` gives them. `parts`: heads float32 (C, E) and labels of the batch's tasks, one after another.
        """
        count(len(inputs), "examples")
        with torch.inference_mode():
            features = self.model.encode(weights, inputs).split([len(labels) for _, labels in parts])
            logits = [(f @ head.to(f.device).T).cpu() for f, (head, _) in zip(features, parts)]
            return torch.cat([_margin(row, labels) for row, (_, labels) in zip(logits, parts)])

    def hits(self, weights: Weights, head: Tensor, split: Split) -> np.ndarray:
        """Which examples are classified correctly: bool (N,)."""
        batches = zip(split.inputs.split(self.batch), split.labels.split(self.batch))
        batches = ahead(batches, self.device, lambda batch, move: (move(batch[0]), batch[1]))
        found = [self.margins(weights, inputs, [(head, labels)]) for inputs, labels in batches]
        return torch.cat(found).numpy() > 0 if found else np.zeros(0, dtype=bool)


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    label = labels[:, None]
    return logits.gather(1, label)[:, 0] - logits.scatter(1, label, -torch.inf).amax(dim=1)


class Bench(NamedTuple):
    """The tasks of a suite as they are examined: frozen heads, validation and test data."""

    heads: dict[str, Tensor]
    val: dict[str, Split]
    test: dict[str, Split]

    @classmethod
    def load(cls, heads: Mapping[str, Path], data: Mapping[str, Path]) -> "Bench":
        return cls(
            heads={task: tensors(open_checkpoint(path))["head"] for task, path in heads.items()},
            val={task: load_split(path, "val") for task, path in data.items()},
            test={task: load_split(path, "test") for task, path in data.items()},
        )


def evaluate(
    examiner: Examiner, bench: Bench, base: Mapping[str, np.ndarray], vector: Mapping[str, np.ndarray],
    alphas: Sequence[float] | float, reference: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    """One candidate, theta_0 + alpha * vector, through all tasks: alpha on validation data, then the test data once.

    `alphas` is the grid to search; a single number is taken as it is.
    `reference`: fine-tuned validation accuracy per task. Returns alpha, the search that led to it, and the test record.
    """
    at: dict[float, Weights] = {}

    def model(alpha: float) -> Weights:
        if alpha not in at:  # one model at a time: the search stays with the one at hand
            at.clear()
            at[alpha] = examiner.cast(scaled(base, vector, alpha))
        return at[alpha]

    starts = np.cumsum([0] + [len(split.labels) for split in bench.val.values()])

    def margins(alpha: float, rows: np.ndarray) -> np.ndarray:
        inputs, parts, places = [], [], []
        for start, stop, (task, split) in zip(starts, starts[1:], bench.val.items()):
            places.append(np.flatnonzero((rows >= start) & (rows < stop)))
            own = torch.from_numpy(rows[places[-1]] - start)
            inputs.append(split.inputs[own])
            parts.append((bench.heads[task], split.labels[own]))
        found = np.empty(len(rows), np.float32)
        found[np.concatenate(places)] = examiner.margins(model(alpha), torch.cat(inputs), parts).numpy()
        return found

    if isinstance(alphas, float):
        alpha, search = alphas, []
    else:
        totals = {task: len(split.labels) for task, split in bench.val.items()}
        alpha, search = choose_alpha(alphas, totals, reference, margins)
    return {"alpha": alpha, "search": search, "test": examine(examiner, bench, lambda task: model(alpha))}


def examine(examiner: Examiner, bench: Bench, model: Callable[[str], Weights]) -> dict[str, Any]:
    """Test record per task; `model(task)` gives the weights, as `Examiner.cast` makes them, to examine on it."""
    return {task: pack_hits(examiner.hits(model(task), bench.heads[task], split)) for task, split in bench.test.items()}


def scaled(base: Mapping[str, np.ndarray], vector: Mapping[str, np.ndarray], alpha: float) -> dict[str, np.ndarray]:
    """theta_0 + alpha * tau over the vector's weights, float32."""
    return {name: base[name] + np.float32(alpha) * tau for name, tau in vector.items()}


def precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the arithmetic: 'fp32', 'bf16', 'fp16', or 'auto', bfloat16 where the device multiplies it faster."""
    if name == "auto":
        fast = {
            "cpu": lambda: torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
            "cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False),
            "mps": lambda: False,
        }
        name = "bf16" if fast[device.type]() else "fp32"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
