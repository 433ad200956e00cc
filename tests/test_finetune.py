import math

import numpy as np
import torch
from tally.evaluate import Examiner, Split
from tally.finetune import batches, finetune, learning_rate

RECIPE = {"batch": 16, "lr": 3e-3, "warmup": 2, "weight_decay": 0.1, "clip_norm": 1.0}


def image_tower(weights):
    return {name: w for name, w in weights.items() if name.startswith("visual.")}


def head(clip_width=16):
    return 10 * torch.nn.functional.normalize(
        torch.randn(2, clip_width, generator=torch.Generator().manual_seed(1)), dim=1
    )


def test_training_learns_and_leaves_the_base_alone(tiny_weights, tiny_clip, colours):
    base = image_tower(tiny_weights)
    before = {name: w.clone() for name, w in base.items()}
    train, losses = Split(*colours), []
    theta = finetune(
        base, tiny_clip, head(), train, steps=40, seed=0, report=lambda s, loss: losses.append(loss), **RECIPE
    )
    assert losses[-1] < losses[0] / 3
    assert Examiner(tiny_clip).hits(theta, head(), train).mean() == 1
    assert all(torch.equal(base[name], before[name]) for name in base)
    assert theta.keys() == base.keys()
    assert all(w.dtype == torch.float32 for w in theta.values())


def test_same_seed_same_weights_bit_for_bit(tiny_weights, tiny_clip, colours):
    runs = [
        finetune(image_tower(tiny_weights), tiny_clip, head(), Split(*colours), steps=5, seed=s, **RECIPE)
        for s in (3, 3, 4)
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_schedule_warms_up_then_falls_to_zero():
    values = [learning_rate(step, 100, 10) for step in range(100)]
    assert values[0] == 0.1
    assert values[9] == values[10] == 1
    assert np.all(np.diff(values[10:]) < 0)
    assert values[55] == 0.5 * (1 + math.cos(math.pi / 2))
    assert values[-1] < 0.001


def test_every_epoch_sees_every_row_once():
    rows = torch.cat(list(batches(10, 4, 5, seed=0)))
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))


def test_a_batch_larger_than_the_task_repeats_it():
    (rows,) = batches(3, 8, 1, seed=0)
    assert len(rows) == 8
    assert set(rows.tolist()) == {0, 1, 2}
