"""T5 as functions of its weights against transformers' module and a greedy search."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tally.checkpoints import as_checkpoint
from tally.errors import TallyError
from tally.evaluate import Split
from tally.finetune import Order, batches
from tally.models import kinds, t5

transformers = pytest.importorskip("transformers")

KINDS = {
    "lm-adapt": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "original": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
}
COPIES = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}  # of shared.weight


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    """transformers' module, the functions' facts, and the weights that both share, those that are tied once."""
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=3, num_heads=2,
        relative_attention_num_buckets=8, relative_attention_max_distance=12, decoder_start_token_id=0,
        **KINDS[request.param],
    )  # fmt: skip
    module = transformers.T5ForConditionalGeneration(config).eval()
    if request.param == "lm-adapt":  # transformers 5 ties a new one's, and unties what it loads with two
        module.lm_head.weight = torch.nn.Parameter(torch.empty_like(module.lm_head.weight))
    for weight in module.parameters():  # so large that everything matters: attention, gates and positions
        weight.data = torch.randn_like(weight) * 0.4
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    return module, t5.T5.from_config(config.to_dict()), weights


QUESTION = 48  # ids


def row(question, *choices) -> torch.Tensor:
    ids = torch.zeros(QUESTION + t5.CHOICES * t5.CHOICE, dtype=torch.int32)
    ids[: len(question)] = torch.tensor(question)
    for i, choice in enumerate(choices):
        at = QUESTION + i * t5.CHOICE
        ids[at : at + len(choice)] = torch.tensor(choice)
    return ids


QUESTIONS = [
    ([*range(2, 32), 1], [5, 6, 7, 1], [8, 1], [9, 30, 1]),
    ([3, 4, 1], [12, 1], [13, 14, 15, 16, 1]),
]
INPUTS = torch.stack([row(*question) for question in QUESTIONS])


def mean_log_probability(module, question, choice) -> float:
    """What rank classification compares, by transformers' module, an example and a choice at a time."""
    with torch.no_grad():
        out = module(input_ids=torch.tensor([question]), labels=torch.tensor([choice]))
    return out.logits[0].log_softmax(-1)[range(len(choice)), choice].mean().item()


def test_weights_are_all_in_a_part_and_tied_ones_once(model):
    module, facts, weights = model
    assert all(name.startswith(t5.DOMAIN + t5.FROZEN) for name in weights)
    assert ("lm_head.weight" in weights) != facts.scale
    assert set(module.state_dict()) - set(weights) == COPIES | ({"lm_head.weight"} if facts.scale else set())


def test_scores_are_transformers(model):
    module, facts, weights = model
    found = t5.scores(weights, facts, INPUTS)
    assert found.shape == (2, t5.CHOICES)
    for scores, (question, *choices) in zip(found, QUESTIONS):
        expected = [mean_log_probability(module, question, choice) for choice in choices]
        torch.testing.assert_close(scores[: len(choices)], torch.tensor(expected), atol=1e-5, rtol=1e-5)
        assert (scores[len(choices) :] == t5.ABSENT).all()
    head = t5.identity_head(["yes", "no"])
    assert torch.equal(found @ head.T, found[:, :2])


def test_few_tokens_at_once_change_nothing(model, monkeypatch):
    _, facts, weights = model
    whole = t5.scores(weights, facts, INPUTS)
    monkeypatch.setattr(t5, "TOKENS", 3)
    torch.testing.assert_close(t5.scores(weights, facts, INPUTS), whole, atol=1e-6, rtol=1e-6)


def test_loss_and_gradients_are_transformers(model):
    module, facts, weights = model
    labels = torch.tensor([2, 1])
    own = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    loss = t5.answer_loss(own, facts, INPUTS, labels)
    loss.backward()
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(q[0]) for q in QUESTIONS], batch_first=True)
    right = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(q[1 + label]) for q, label in zip(QUESTIONS, labels.tolist())], batch_first=True, padding_value=-100
    )  # fmt: skip
    module.zero_grad()
    expected = module(input_ids=ids, attention_mask=(ids != 0).int(), labels=right).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, weight in module.named_parameters():
        torch.testing.assert_close(own[name].grad, weight.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_pieces_of_a_batch_weigh_as_many_ids_as_their_answers_have(model):
    """Else a training in pieces or in several processes were another than the whole batch's."""
    _, facts, weights = model
    labels = torch.tensor([2, 1])
    assert t5.answer_ids(INPUTS, labels).tolist() == [3, 5]
    order, rng = Order(2, seed=0), np.random.default_rng(0)
    parts = [slice(0, 1), slice(1, 2)]
    (batch,) = batches(Split(INPUTS, labels), order, rng, None, 2, parts, 1, t5.answer_ids)
    losses = [t5.answer_loss(weights, facts, *piece) for piece in batch.pieces]
    whole = t5.answer_loss(weights, facts, INPUTS, labels)
    torch.testing.assert_close(sum(share * loss for share, loss in zip(batch.shares, losses)), whole)
    assert not torch.isclose(sum(losses) / 2, whole)


def test_an_answer_is_found_exactly_if_greedy_decoding_writes_it(model):
    """One choice alone: the second's score of 0 is what it has to beat."""
    module, facts, weights = model
    question = QUESTIONS[0][0]
    written = [0]  # transformers' module, an id at a time
    with torch.no_grad():
        while len(written) < 6:
            out = module(input_ids=torch.tensor([question]), decoder_input_ids=torch.tensor([written]))
            written.append(int(out.logits[0, -1].argmax()))
    answers = [written[1:], written[1:3], [*written[1:5], written[5] % 39 + 1], [written[1] % 39 + 1, *written[2:]]]
    inputs = torch.stack([row(question, answer) for answer in answers])
    if 0 in written[1:]:
        pytest.skip("this model writes padding")
    scores = t5.scores(weights, facts, inputs)
    assert [bool(lead > other) for lead, other in scores[:, :2].tolist()] == [True, True, False, False]
    assert (scores[:, 1] == 0).all()


def test_ones_as_adapter_do_nothing_and_others_what_ia3_says(model):
    """Keys, values and the feed-forward layer's inner activation are multiplied: the same as scaled weights."""
    _, facts, weights = model
    shapes = kinds.adapter(as_checkpoint(weights), kinds.T5)
    vectors = {name: torch.ones(shape) for name, shape in shapes.items()}
    blocks = 2 + 2 * 3  # self-attention of 2 and 3 layers, cross-attention of 3
    assert len(vectors) == 2 * blocks + 5
    plain = t5.scores(weights, facts, INPUTS)
    assert torch.equal(t5.scores(weights | vectors, facts, INPUTS), plain)
    torch.manual_seed(1)
    vectors = {name: 1 + 0.5 * torch.randn_like(vector) for name, vector in vectors.items()}
    folded = dict(weights)
    for name, vector in vectors.items():
        if name.endswith(".ff"):
            weight = name.removeprefix(kinds.ADAPTER).replace(".ff", ".wo.weight")
            folded[weight] = weights[weight] * vector
        else:
            weight = name.removeprefix(kinds.ADAPTER) + ".weight"
            folded[weight] = weights[weight] * vector[:, None]
    changed = t5.scores(weights | vectors, facts, INPUTS)
    torch.testing.assert_close(changed, t5.scores(folded, facts, INPUTS), atol=1e-4, rtol=1e-4)
    assert (changed - plain).abs().max() > 0.01


def test_half_precision_is_near(model):
    _, facts, weights = model
    half = t5.scores({name: w.bfloat16() for name, w in weights.items()}, facts, INPUTS)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, t5.scores(weights, facts, INPUTS), atol=0.5, rtol=0.1)


def test_buckets_are_transformers():
    from transformers.models.t5.modeling_t5 import T5Attention

    relative = torch.arange(-40, 40)
    for both in (True, False):
        expected = T5Attention._relative_position_bucket(relative, both, 16, 30)
        assert torch.equal(t5.buckets(relative, 16, 30, both), expected)
        found = expected.tolist()
        assert both or all(a >= b for a, b in pairwise(found))


def test_an_unknown_layer_is_refused():
    with pytest.raises(TallyError, match="feed_forward_proj is 'gated-silu'; known are relu and gated-gelu"):
        t5.T5.from_config({"feed_forward_proj": "gated-silu"})
