import math

import numpy as np
import torch
from tally.data.augment import MOVED
from tally.evaluate import Examiner, Split
from tally.finetune import Order, Stopping, batches, finetune, learning_rate, loss_of
from tally.models.base import compiled
from torch._subclasses.fake_tensor import FakeTensorMode

RECIPE = {"batch": 16, "lr": 3e-3, "warmup": 2, "weight_decay": 0.1, "clip_norm": 1.0}


def image_tower(weights):
    return {name: w for name, w in weights.items() if name.startswith("visual.")}


def head(clip_width=16):
    return 10 * torch.nn.functional.normalize(
        torch.randn(2, clip_width, generator=torch.Generator().manual_seed(1)), dim=1
    )


def test_training_learns_and_leaves_the_base_alone(tiny_weights, tiny_model, colours):
    base = image_tower(tiny_weights)
    before = {name: w.clone() for name, w in base.items()}
    train, losses = Split(*colours), []
    theta = finetune(
        base, tiny_model, head(), train, steps=40, seed=0, report=lambda s, loss: losses.append(loss), **RECIPE
    )
    assert losses[-1] < losses[0] / 3
    assert Examiner(tiny_model).hits(theta, head(), train).mean() == 1
    assert all(torch.equal(base[name], before[name]) for name in base)
    assert theta.keys() == base.keys()
    assert all(w.dtype == torch.float32 for w in theta.values())


def test_same_seed_same_weights_bit_for_bit(tiny_weights, tiny_model, colours):
    runs = [
        finetune(image_tower(tiny_weights), tiny_model, head(), Split(*colours), steps=5, seed=s, **RECIPE)
        for s in (3, 3, 4)
    ]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def trained(weights, model, colours, **changes):
    """(weights, losses) of seven steps; a batch of 48 of 64 pictures, so that batches span epochs."""
    losses = []
    options = RECIPE | {"batch": 48, "epsilon": 1e-3} | changes
    theta = finetune(
        image_tower(weights), model, head(), Split(*colours), steps=7, seed=3,
        report=lambda step, loss: losses.append(loss), **options,
    )  # fmt: skip
    return theta, losses


def test_interrupted_after_any_step_it_ends_with_the_same_bits(tiny_weights, tiny_model, colours):
    states = []

    def keep(snapshot):
        state = snapshot()  # its tensors change with the training
        states.append(state._replace(tensors={name: t.clone() for name, t in state.tensors.items()}))

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        states.clear()
        whole, losses = trained(tiny_weights, tiny_model, colours, keep=keep, dtype=dtype)
        assert [state.step for state in states] == list(range(1, 8))
        for state in states:
            theta, rest = trained(tiny_weights, tiny_model, colours, start=state, dtype=dtype)
            assert rest == losses[state.step :]
            assert all(torch.equal(theta[name], whole[name]) for name in whole)


def test_accumulated_gradients_are_those_of_the_whole_batch(tiny_weights, tiny_model, colours):
    whole, losses = trained(tiny_weights, tiny_model, colours)
    for pieces in (2, 5):
        theta, same = trained(tiny_weights, tiny_model, colours, accumulate=pieces)
        np.testing.assert_allclose(same, losses, rtol=1e-5)
        assert all(torch.allclose(theta[name], whole[name], atol=1e-5) for name in whole)


def test_float16_follows_float32(tiny_weights, tiny_model, colours):
    _, losses = trained(tiny_weights, tiny_model, colours)
    _, half = trained(tiny_weights, tiny_model, colours, dtype=torch.float16)
    np.testing.assert_allclose(half[0], losses[0], rtol=0.01)
    assert half[-1] < 0.02  # a step or two were left out


def test_a_step_whose_float16_gradients_overflow_is_left_out(tiny_weights, tiny_model, colours):
    base, steps = image_tower(tiny_weights), []

    def keep(snapshot):
        state = snapshot()
        same = all(torch.equal(state.tensors[f"theta/{name}"], w) for name, w in base.items())
        steps.append((same, state.streams["scaler"]["scale"]))

    recipe = RECIPE | {"warmup": 0}
    finetune(
        base, tiny_model, 1000 * head(), Split(*colours), steps=20, seed=0, dtype=torch.float16, keep=keep, **recipe
    )
    assert steps[0] == (True, 2.0**15)  # half the scale it began with
    assert not steps[-1][0]
    assert steps[-1][1] < 2.0**15


def test_batches_tell_where_the_next_begins(colours):
    """So that those that a thread drew ahead are no part of a snapshot."""
    order, rng = Order(64, seed=1), np.random.default_rng(2)
    drawn = list(batches(Split(*colours), order, rng, MOVED, 48, [slice(0, 20), slice(20, 48)], 3))
    order, rng = Order(64, seed=0), np.random.default_rng(0)
    order.rows, order.rng.bit_generator.state = drawn[0].rows, drawn[0].streams["order"]
    rng.bit_generator.state = drawn[0].streams["shifts"]
    again = list(batches(Split(*colours), order, rng, MOVED, 48, [slice(0, 48)], 2))
    for whole, pieces in zip(again, drawn[1:]):
        for part in (0, 1):
            assert torch.equal(whole.pieces[0][part], torch.cat([piece[part] for piece in pieces.pieces]))


def test_a_compiled_encoder_trains_alike(tiny_weights, tiny_model, colours):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    _, losses = trained(tiny_weights, tiny_model, colours)
    _, same = trained(tiny_weights, compiled(tiny_model, backend), colours)
    np.testing.assert_allclose(same, losses, rtol=1e-6)
    assert len(graphs) == 1


def test_it_ends_early_with_the_best_weights_and_so_does_one_that_was_interrupted(tiny_weights, tiny_model, colours):
    """Looks after steps 1, 2, 3 ... find 3, 5, 5, 4, 1, and three looks without a better one end it after step 5."""
    found, after, states = [3, 5, 5, 4, 1], [], []

    def score(theta):
        after.append({name: w.clone() for name, w in theta.items()})
        return found[len(after) - 1]

    def keep(snapshot):
        state = snapshot()
        states.append(state._replace(tensors={name: t.clone() for name, t in state.tensors.items()}))

    theta, losses = trained(tiny_weights, tiny_model, colours, stopping=Stopping(score, 1, 3), keep=keep)
    assert len(losses) == 5
    assert all(torch.equal(theta[name], after[1][name]) for name in theta)
    for state in states:
        del after[state.step :]
        again, rest = trained(tiny_weights, tiny_model, colours, stopping=Stopping(score, 1, 3), start=state)
        assert rest == losses[state.step :]
        assert all(torch.equal(again[name], theta[name]) for name in theta)


def test_without_a_look_the_last_weights_are_taken(tiny_weights, tiny_model, colours):
    last, _ = trained(tiny_weights, tiny_model, colours)
    same, _ = trained(tiny_weights, tiny_model, colours, stopping=Stopping(lambda theta: 0, 100, 1))
    assert all(torch.equal(same[name], last[name]) for name in last)


def test_everything_in_the_loss_is_on_one_device(tiny_weights, tiny_model, colours):
    """torch's stand-in for CUDA computes shapes alone, but refuses to mix devices."""
    images, labels = colours
    with FakeTensorMode(allow_non_fake_inputs=True):
        weights = {name: torch.empty_like(w, device="cuda") for name, w in image_tower(tiny_weights).items()}
        loss = loss_of(weights, tiny_model, head().to("cuda"), images, labels, torch.bfloat16)
    assert loss.device.type == "cuda"


def test_schedule_warms_up_then_falls_to_zero():
    values = [learning_rate(step, 100, 10) for step in range(100)]
    assert values[0] == 0.1
    assert values[9] == values[10] == 1
    assert np.all(np.diff(values[10:]) < 0)
    assert values[55] == 0.5 * (1 + math.cos(math.pi / 2))
    assert values[-1] < 0.001
    assert [learning_rate(step, 100, 2, "constant") for step in (0, 1, 2, 99)] == [0.5, 1, 1, 1]


def test_every_epoch_sees_every_row_once():
    order = Order(10, seed=0)
    rows = torch.cat([order.take(4) for _ in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))


def test_a_batch_larger_than_the_task_repeats_it():
    rows = Order(3, seed=0).take(8)
    assert len(rows) == 8
    assert set(rows.tolist()) == {0, 1, 2}
