"""BERT as a sentence encoder: a pure function of its weights, under the names of transformers' BertModel.

``tests/models/test_bert.py`` holds it to transformers' own module. B texts, S tokens of the longest, N tokens of all, W width, H heads.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from tally.errors import TallyError
from tally.models.clip import Weights
from torch import Tensor

PADDING = 0  # id of the token that fills a row


@dataclass(frozen=True)
class Bert:
    """What the shapes of the weights do not tell, read from a transformers config."""

    layers: int
    heads: int
    context: int  # the longest text, in tokens
    epsilon: float  # of the layer norms

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Bert":
        """Raises TallyError for what `encode` does not compute."""
        for key, only in (("hidden_act", "gelu"), ("position_embedding_type", "absolute"), ("pad_token_id", PADDING)):
            if config.get(key, only) != only:
                raise TallyError(f"config.json: {key} is {config[key]!r}, but only {only!r} is known")
        return cls(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            context=config["max_position_embeddings"],
            epsilon=config.get("layer_norm_eps", 1e-12),
        )


def encode(weights: Weights, bert: Bert, tokens: Tensor) -> Tensor:
    """Features of texts: the mean over a text's tokens of the last layer, L2-normalised.

    `tokens` are integers (B, S), one at least in a row, rows filled up with PADDING on the right. Everything but the
    attention is computed for the N tokens that are there, so a batch costs what its texts are long, whatever the longest.
    Returns float32 (B, E), E = W.
    """
    w = weights
    words = w["embeddings.word_embeddings.weight"]
    longest = int((tokens != PADDING).sum(dim=1).max()) if len(tokens) else 0
    tokens = tokens[:, :longest].to(words.device, torch.int64)
    real = tokens != PADDING  # (B, S)
    row, column = real.nonzero(as_tuple=True)  # (N,), (N,)
    layout = Layout(row, column, *real.shape)
    x = words[tokens[real]] + w["embeddings.position_embeddings.weight"][column]
    x = layer_norm(x + w["embeddings.token_type_embeddings.weight"][0], w, "embeddings.LayerNorm", bert)  # (N, W)
    unseen = torch.zeros(real.shape, dtype=x.dtype, device=x.device).masked_fill(~real, -torch.inf)[:, None, None]
    for layer in range(bert.layers):
        block = f"encoder.layer.{layer}"
        h = attention(x, layout, unseen, w, f"{block}.attention", bert.heads)
        x = layer_norm(x + h, w, f"{block}.attention.output.LayerNorm", bert)
        h = linear(F.gelu(linear(x, w, f"{block}.intermediate.dense")), w, f"{block}.output.dense")
        x = layer_norm(x + h, w, f"{block}.output.LayerNorm", bert)
    x = layout.spread(x.float()).sum(dim=1) / real.sum(dim=1, keepdim=True)  # (B, W)
    return F.normalize(x, dim=-1)


class Layout(NamedTuple):
    """Where the N tokens of a batch stand among its B x S places."""

    row: Tensor  # int64 (N,)
    column: Tensor  # int64 (N,)
    texts: int  # B
    length: int  # S

    def spread(self, x: Tensor) -> Tensor:
        """(N, W) -> (B, S, W), 0 where there is no token."""
        return x.new_zeros(self.texts, self.length, x.shape[-1]).index_put((self.row, self.column), x)


def attention(x: Tensor, layout: Layout, unseen: Tensor, w: Weights, name: str, heads: int) -> Tensor:
    """Multi-head self-attention, (N, W) -> (N, W); `unseen` (B, 1, 1, S) is -inf where there is no token."""
    W = x.shape[-1]
    q, k, v = (
        layout.spread(linear(x, w, f"{name}.self.{part}")).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )  # 3 x (B, H, S, W/H)
    if torch.is_grad_enabled():  # not torch's fused kernel, whose backward is slow on a CPU for short texts
        scores = q @ k.transpose(-1, -2) * (W // heads) ** -0.5 + unseen  # (B, H, S, S)
        out = scores.softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, unseen)
    return linear(out.transpose(1, 2).flatten(2)[layout.row, layout.column], w, f"{name}.output.dense")  # (N, W)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def layer_norm(x: Tensor, w: Weights, name: str, bert: Bert) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], bert.epsilon)
