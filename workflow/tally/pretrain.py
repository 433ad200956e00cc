"""Contrastive pre-training of the embedded base model on the generated corpus."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tally.data.augment import shifted, shifts
from tally.models.clip import Clip, Weights, encode_image, encode_text
from tally.models.words import Words, split
from torch import Tensor


def initial_weights(config: str | Path, seed: int) -> Weights:
    """open_clip's own initialisation of the model that the config describes."""
    import open_clip

    torch.manual_seed(seed)
    cfg = json.loads(Path(config).read_text())["model_cfg"]
    return {name: p.detach().clone() for name, p in open_clip.CLIP(**cfg).named_parameters()}


def pretrain(
    weights: Weights, clip: Clip, words: Words, images: Tensor, captions: list[str], *,
    steps: int, batch: int, lr: float, warmup: int, weight_decay: float, seed: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Weights:  # fmt: skip
    """Train so that an image and its caption have close features.

    The loss is the cross entropy of each image over the batch's distinct captions (equal captions are no negatives
    of each other). Weights are float32, the products bfloat16. `images` are uint8 (N, 3, R, R). Augmentation: a
    shift of up to 2 pixels, contrast and inversion; one word in ten is spelled, so that the characters mean something.
    """
    rng = np.random.default_rng(seed)
    params = {name: w.clone().requires_grad_() for name, w in weights.items()}
    decayed = [w for w in params.values() if w.ndim >= 2]
    others = [w for w in params.values() if w.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6, fused=True)
    order = np.empty(0, dtype=np.int64)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)))
        if len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(captions))])
        rows, order = order[:batch], order[batch:]
        texts = sorted({captions[i] for i in rows})
        place = {text: i for i, text in enumerate(texts)}
        target = torch.tensor([place[captions[i]] for i in rows])
        ids = [words.encode(t, frozenset(np.flatnonzero(rng.random(len(split(t))) < 0.1).tolist())) for t in texts]
        tokens = torch.from_numpy(words.batch(ids, clip.context))

        half = {name: w.bfloat16() for name, w in params.items()}
        image_features = encode_image(half, clip, augment(images[rows], rng))
        text_features = encode_text(half, clip, tokens)
        logits = params["logit_scale"].exp() * image_features @ text_features.T  # (batch, captions)
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        optimizer.step()
        with torch.no_grad():
            params["logit_scale"].clamp_(max=math.log(100))
        report(step, loss.item())
    return {name: w.detach() for name, w in params.items()}


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each picture by up to 2 pixels, stretch its contrast, invert a tenth of them: uint8 to uint8."""
    n = len(images)
    moved = shifted(images, shifts(n, rng)).float()
    gain = torch.from_numpy(rng.uniform(0.6, 1.2, (n, 1, 1, 1))).float()
    flip = torch.from_numpy(rng.random((n, 1, 1, 1)) < 0.1)
    moved = (moved - 127.5) * gain + 127.5
    return torch.where(flip, 255 - moved, moved).clamp(0, 255).to(torch.uint8)
