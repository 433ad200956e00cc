"""BERT as a sentence encoder: a pure function of its weights, under the names of transformers' BertModel.

``tests/models/test_bert.py`` holds it to transformers' own module. B texts, S tokens, W width, H heads.
"""

from dataclasses import dataclass
from typing import Any

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
    vocabulary: int
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
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            epsilon=config.get("layer_norm_eps", 1e-12),
        )


def encode(weights: Weights, bert: Bert, tokens: Tensor) -> Tensor:
    """Features of texts: the mean over a text's tokens of the last layer, L2-normalised.

    `tokens` are integers (B, S), one at least in a row, rows filled up with PADDING on the right; columns without any token are not computed.
    Returns float32 (B, E), E = W.
    """
    w = weights
    words = w["embeddings.word_embeddings.weight"]
    real = tokens != PADDING  # (B, S)
    S = int(real.sum(dim=1).max()) if len(tokens) else 1
    tokens, real = tokens[:, :S].to(words.device, torch.int64), real[:, :S].to(words.device)
    x = words[tokens] + w["embeddings.position_embeddings.weight"][:S] + w["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, w, "embeddings.LayerNorm", bert)  # (B, S, W)
    unseen = torch.zeros(real.shape, dtype=x.dtype, device=x.device).masked_fill(~real, -torch.inf)[:, None, None]
    for layer in range(bert.layers):
        block = f"encoder.layer.{layer}"
        h = attention(x, unseen, w, f"{block}.attention", bert.heads)
        x = layer_norm(x + h, w, f"{block}.attention.output.LayerNorm", bert)
        h = linear(F.gelu(linear(x, w, f"{block}.intermediate.dense")), w, f"{block}.output.dense")
        x = layer_norm(x + h, w, f"{block}.output.LayerNorm", bert)
    x = (x.float() * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)  # (B, W)
    return F.normalize(x, dim=-1)


def attention(x: Tensor, unseen: Tensor, w: Weights, name: str, heads: int) -> Tensor:
    """Multi-head self-attention, (B, S, W) -> (B, S, W); `unseen` (B, 1, 1, S) is -inf where a token is padding."""
    B, S, W = x.shape
    q, k, v = (
        linear(x, w, f"{name}.self.{part}").view(B, S, heads, W // heads).transpose(1, 2)
        for part in ("query", "key", "value")
    )  # 3 x (B, H, S, W/H)
    # not torch's fused kernel: on a CPU its backward is slow for short texts
    scores = q @ k.transpose(-1, -2) * (W // heads) ** -0.5 + unseen  # (B, H, S, S)
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, S, W)
    return linear(out, w, f"{name}.output.dense")


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def layer_norm(x: Tensor, w: Weights, name: str, bert: Bert) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], bert.epsilon)
