"""T5 as pure functions of its weights, and the questions with choices that it is asked.

The weights are a plain ``dict[str, Tensor]`` with transformers' names and shapes; ``tests/models/test_t5.py`` holds the
functions to its T5ForConditionalGeneration. Gated or plain feed-forward; an output layer of its own, or the embedding again.
With (IA)^3's vectors among the weights (names below), they multiply keys, values and what the feed-forward layers hold.

B examples, S tokens of a question, C choices, A tokens of a choice, H heads, K width of a head, W width, V vocabulary.
An input is a row of ids, int (Q + C A,), 0 where there is nothing: the question, then C choices of A ids; see `tally.data.questions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from tally.data.questions import CHOICE, CHOICES
from tally.errors import TallyError
from tally.models.clip import Weights
from tally.models.kinds import ADAPTER
from torch import Tensor

ABSENT = -1e4  # score of a choice that is not there: below all that are, and finite, for heads multiply it by 0
TOKENS = 1024  # whose logits are in hand at once: 130 MB of them for the vocabulary of 32128
FROZEN = ("shared.",)  # the embedding, as the paper's numbers of stored bits have it
DOMAIN = ("encoder.block.", "encoder.final_layer_norm.", "decoder.block.", "decoder.final_layer_norm.", "lm_head.")


@dataclass(frozen=True)
class T5:
    """What the shapes of the weights do not tell, read from transformers' config.json."""

    encoder: int  # layers
    decoder: int
    heads: int
    epsilon: float
    distance: int  # from which on all positions share a bucket
    activation: str  # relu, or gelu_new where it is gated
    gated: bool
    scale: bool  # what meets the output layer is divided by the root of the width

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "T5":
        activation = config.get("feed_forward_proj", "relu")
        if activation not in ("relu", "gated-gelu"):
            raise TallyError(f"config.json: feed_forward_proj is {activation!r}; known are relu and gated-gelu")
        return cls(
            encoder=config["num_layers"],
            decoder=config.get("num_decoder_layers") or config["num_layers"],
            heads=config["num_heads"],
            epsilon=config.get("layer_norm_epsilon", 1e-6),
            distance=config.get("relative_attention_max_distance", 128),
            activation="relu" if activation == "relu" else "gelu",
            gated=activation == "gated-gelu",
            # T5 1.1 and its kin do not, which newer configs say by itself, older ones by their untied output layer
            scale=config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)),
        )


# --- the network ------------------------------------------------------------------------------------------------------


def encode_question(w: Weights, t5: T5, ids: Tensor) -> Tensor:
    """int64 (B, S), 0 at the end -> (B, S, W)."""
    x = w["shared.weight"][ids]
    bias = positions(w, t5, "encoder", ids.shape[1]) + hidden(ids, x)  # (B, H, S, S)
    for i in range(t5.encoder):
        block = f"encoder.block.{i}.layer"
        normed = norm(x, w, f"{block}.0.layer_norm", t5)
        x = x + attention(normed, normed, bias, w, f"{block}.0.SelfAttention", t5)
        x = feed_forward(x, w, f"{block}.1", t5)
    return norm(x, w, "encoder.final_layer_norm", t5)


def decode(w: Weights, t5: T5, states: Tensor, question: Tensor, choices: Tensor) -> Tensor:
    """What predicts each id of each choice: states (B, S, W) of question (B, S), choices (B, C, A) -> (B, C, A, W)."""
    B, C, A = choices.shape
    before = F.pad(choices, (1, -1)).flatten(0, 1)  # (B C, A), after the start, which is the padding
    x = w["shared.weight"][before]
    causal = torch.full((A, A), float("-inf"), dtype=x.dtype, device=x.device).triu(1)
    bias = positions(w, t5, "decoder", A) + causal  # (1, H, A, A)
    cross = hidden(question, x)  # (B, 1, 1, S)
    for i in range(t5.decoder):
        block = f"decoder.block.{i}.layer"
        normed = norm(x, w, f"{block}.0.layer_norm", t5)
        x = x + attention(normed, normed, bias, w, f"{block}.0.SelfAttention", t5)
        normed = norm(x, w, f"{block}.1.layer_norm", t5).view(B, C * A, -1)  # all choices ask the one question
        x = x + attention(normed, states, cross, w, f"{block}.1.EncDecAttention", t5).view(x.shape)
        x = feed_forward(x, w, f"{block}.2", t5)
    return norm(x, w, "decoder.final_layer_norm", t5).view(B, C, A, -1)


def norm(x: Tensor, w: Weights, name: str, t5: T5) -> Tensor:
    """Divided by the root of its mean square, in float32."""
    scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + t5.epsilon)
    return w[f"{name}.weight"] * (x * scale).to(x.dtype)


def attention(x: Tensor, to: Tensor, bias: Tensor, w: Weights, name: str, t5: T5) -> Tensor:
    """Of x (B, N, W) to `to` (B, S, W) -> (B, N, W). T5 does not scale the products."""
    q, k, v = (
        scaled(F.linear(source, w[f"{name}.{part}.weight"]), w, f"{name}.{part}").unflatten(-1, (t5.heads, -1))
        for source, part in ((x, "q"), (to, "k"), (to, "v"))
    )  # (B, N or S, H, K)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=bias, scale=1.0
    )
    return F.linear(out.transpose(1, 2).flatten(2), w[f"{name}.o.weight"])


def feed_forward(x: Tensor, w: Weights, name: str, t5: T5) -> Tensor:
    dense, act = f"{name}.DenseReluDense", F.relu if t5.activation == "relu" else tanh_gelu
    h = norm(x, w, f"{name}.layer_norm", t5)
    if t5.gated:
        h = act(F.linear(h, w[f"{dense}.wi_0.weight"])) * F.linear(h, w[f"{dense}.wi_1.weight"])
    else:
        h = act(F.linear(h, w[f"{dense}.wi.weight"]))
    return x + F.linear(scaled(h, w, f"{dense}.ff"), w[f"{dense}.wo.weight"])


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def scaled(x: Tensor, w: Weights, name: str) -> Tensor:
    vector = w.get(f"{ADAPTER}{name}")
    return x if vector is None else x * vector


def hidden(ids: Tensor, like: Tensor) -> Tensor:
    """-inf where attention meets padding, else 0: (B, 1, 1, S). The first id is always seen."""
    padding = (ids == 0).index_fill(1, torch.tensor([0], device=ids.device), False)
    return torch.zeros(ids.shape, dtype=like.dtype, device=like.device).masked_fill(padding, float("-inf"))[
        :, None, None
    ]


def positions(w: Weights, t5: T5, side: str, size: int) -> Tensor:
    """The bias of attention by relative position, of the first layer and shared by all: (1, H, size, size)."""
    table = w[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]  # (buckets, H)
    place = torch.arange(size, device=table.device)
    return table[buckets(place[None] - place[:, None], len(table), t5.distance, side == "encoder")].permute(2, 0, 1)[
        None
    ]


def buckets(relative: Tensor, count: int, distance: int, both: bool) -> Tensor:
    """Key position minus query position -> bucket: half of them for single positions, then wider in a logarithmic scale.

    `both`: keys after the query have buckets of their own; else they count as the query's own position.
    """
    start = torch.zeros_like(relative)
    if both:
        count //= 2
        start, relative = (relative > 0) * count, relative.abs()
    else:
        relative = -relative.clamp(max=0)
    exact = count // 2
    far = exact + (relative.clamp(min=1) / exact).log() / log(distance / exact) * (count - exact)
    return start + torch.where(relative < exact, relative, far.long().clamp(max=count - 1))


# --- questions with choices -------------------------------------------------------------------------------------------


def parts(inputs: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of ids as questions int64 (B, S) and choices (B, C, A), without the columns that are empty in all of them."""
    inputs = inputs.to(device, torch.int64)
    question, choices = inputs[:, : -CHOICES * CHOICE], inputs[:, -CHOICES * CHOICE :].unflatten(1, (CHOICES, CHOICE))
    there = choices != 0
    C, A = int(there.any(2).any(0).sum()), int(there.any(1).any(0).sum())
    return question[:, : int((question != 0).any(0).sum())], choices[:, :C, :A]


def output_layer(w: Weights, t5: T5) -> Tensor:
    """(V, W), scaled instead of what it multiplies."""
    layer = w["lm_head.weight"] if "lm_head.weight" in w else w["shared.weight"]
    return layer * layer.shape[1] ** -0.5 if t5.scale else layer


def predicted(w: Weights, t5: T5, question: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    """Of each id of the choices, float32 (B, C, A), 0 at padding: its log-probability; its logit minus the best other's."""
    there = choices != 0
    states = decode(w, t5, encode_question(w, t5, question), question, choices)[there]  # (ids, W)
    layer, targets, chances, leads = output_layer(w, t5), choices[there], [], []
    for h, ids in zip(states.split(TOKENS), targets.split(TOKENS)):
        logits = F.linear(h, layer).float()  # (TOKENS, V)
        chances.append(-F.cross_entropy(logits, ids, reduction="none"))
        own = ids[:, None]
        leads.append(logits.gather(1, own)[:, 0] - logits.scatter(1, own, float("-inf")).amax(1))
    empty = torch.zeros(choices.shape, device=states.device)
    return empty.masked_scatter(there, torch.cat(chances)), empty.masked_scatter(there, torch.cat(leads))


def scores(w: Weights, t5: T5, inputs: Tensor) -> Tensor:
    """Scores of the choices, float32 (B, CHOICES): the mean log-probability of a choice's ids (rank classification).

    Where there is one choice alone, the answer has to be found and not to be chosen: its score is above 0, which is the
    second's, exactly if greedy decoding writes this answer and ends, for then every id leads after those before it.
    """
    question, choices = parts(inputs, w["shared.weight"].device)
    chances, leads = predicted(w, t5, question, choices)
    there = choices != 0
    mean = chances.sum(2) / there.sum(2).clamp(min=1)
    found = mean.masked_fill(~there.any(2), ABSENT)
    found = F.pad(found, (0, CHOICES - found.shape[1]), value=ABSENT)
    alone = there.any(2).sum(1) == 1
    lead = leads.masked_fill(~there, float("inf")).amin(2)[:, 0]
    found[:, 0] = torch.where(alone, lead, found[:, 0])
    found[:, 1] = torch.where(alone, torch.zeros_like(lead), found[:, 1])
    return found


def right_answers(inputs: Tensor, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Questions (B, S) and the ids of their right answers (B, 1, A)."""
    question, choices = parts(inputs, device)
    right = choices[torch.arange(len(labels)), labels.to(device)][:, None]
    return question, right[:, :, : int((right != 0).any(0).any(0).sum())]


def answer_ids(inputs: Tensor, labels: Tensor) -> Tensor:
    """How many ids each right answer has, int64 (B,): what `answer_loss` is the mean over."""
    return (right_answers(inputs, labels, inputs.device)[1] != 0).sum((1, 2))


def answer_loss(w: Weights, t5: T5, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the ids of the right answers."""
    question, right = right_answers(inputs, labels, w["shared.weight"].device)
    chances, _ = predicted(w, t5, question, right)
    return -chances.sum() / (right != 0).sum()


def identity_head(choices: Sequence[str]) -> Tensor:
    """float32 (choices, CHOICES): the scores are the logits."""
    return torch.eye(CHOICES)[: len(choices)]
