"""CLIP as two pure functions of its weights.

The weights are a plain ``dict[str, Tensor]`` with open_clip's names and shapes, so a merged or restored
model is evaluated by handing over another dict: no module is built, nothing is copied, and a job imports
torch alone (1.7 s) instead of open_clip (5 s). ``tests/models/test_clip.py`` holds both to the same features.

B images or texts, S tokens, W width, H heads, L layers, E embedding, R resolution, P patch.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Tower:
    """One transformer of a CLIP model; `quick_gelu` is OpenAI's x * sigmoid(1.702 x)."""

    layers: int
    heads: int
    quick_gelu: bool = False


@dataclass(frozen=True)
class Clip:
    """What the shapes of the weights do not tell, read from an open_clip model config."""

    image: Tower
    text: Tower
    resolution: int
    context: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Clip":
        """Read an open_clip JSON config: `model_cfg` as open_clip writes it and `preprocess_cfg` beside it."""
        model, preprocess = config["model_cfg"], config["preprocess_cfg"]
        vision, text = model["vision_cfg"], model["text_cfg"]
        quick = model.get("quick_gelu", False)
        return cls(
            image=Tower(vision["layers"], vision["width"] // vision.get("head_width", 64), quick),
            text=Tower(text["layers"], text["heads"], quick),
            resolution=vision["image_size"],
            context=text["context_length"],
            mean=tuple(preprocess["mean"]),
            std=tuple(preprocess["std"]),
        )


def encode_image(weights: Weights, clip: Clip, images: Tensor, *, prefix: str = "visual.") -> Tensor:
    """Features of images, L2-normalised.

    `weights` are the image tower's, under `prefix`, in the dtype to compute in; `images` are uint8
    (B, 3, R, R). Returns (B, E) in float32.
    """
    w = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    patches = w["conv1.weight"]  # (W, 3, P, P)
    x = F.conv2d(pixels(images, clip, patches), patches, stride=patches.shape[-1])  # (B, W, R/P, R/P)
    x = x.flatten(2).transpose(1, 2)  # (B, S-1, W)
    x = torch.cat([w["class_embedding"].expand(len(x), 1, -1), x], dim=1)  # (B, S, W)
    x = x + w["positional_embedding"]
    x = layer_norm(x, w, "ln_pre")
    x = transformer(x, w, clip.image, only_first=True)
    x = layer_norm(x[:, 0], w, "ln_post") @ w["proj"]  # (B, E)
    return F.normalize(x.float(), dim=-1)


def encode_text(weights: Weights, clip: Clip, tokens: Tensor) -> Tensor:
    """Features of texts, L2-normalised: int64 (B, S), the end token being the largest id of a row. -> (B, E) float32."""
    w = weights
    x = w["token_embedding.weight"][tokens] + w["positional_embedding"][: tokens.shape[1]]  # (B, S, W)
    x = transformer(x, w, clip.text, causal=True)
    x = layer_norm(x, w, "ln_final")
    x = x[torch.arange(len(x)), tokens.argmax(dim=1)] @ w["text_projection"]  # (B, E)
    return F.normalize(x.float(), dim=-1)


def pixels(images: Tensor, clip: Clip, like: Tensor) -> Tensor:
    """uint8 (B, 3, R, R) -> normalised, in the dtype and on the device of `like`."""
    mean, std = (torch.tensor(v, device=like.device).view(3, 1, 1) for v in (clip.mean, clip.std))
    return ((images.to(like.device).float() / 255 - mean) / std).to(like.dtype)


def layer_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def transformer(x: Tensor, w: Weights, tower: Tower, *, causal: bool = False, only_first: bool = False) -> Tensor:
    """Pre-norm residual blocks, (B, S, W) -> (B, S, W).

    `only_first` gives (B, 1, W), the first token alone: the last block then computes no other, an eighth of the work.
    """
    for layer in range(tower.layers):
        block = f"transformer.resblocks.{layer}"
        asked = 1 if only_first and layer == tower.layers - 1 else x.shape[1]  # tokens wanted of this block
        normed = layer_norm(x, w, f"{block}.ln_1")
        x = x[:, :asked] + attention(normed, asked, w, f"{block}.attn", tower.heads, causal)
        h = F.linear(layer_norm(x, w, f"{block}.ln_2"), w[f"{block}.mlp.c_fc.weight"], w[f"{block}.mlp.c_fc.bias"])
        h = h * torch.sigmoid(1.702 * h) if tower.quick_gelu else F.gelu(h)
        x = x + F.linear(h, w[f"{block}.mlp.c_proj.weight"], w[f"{block}.mlp.c_proj.bias"])
    return x


def attention(x: Tensor, asked: int, w: Weights, name: str, heads: int, causal: bool) -> Tensor:
    """Multi-head self-attention of the first `asked` tokens A to all: (B, S, W) -> (B, A, W)."""
    B, S, W = x.shape
    weight, bias = w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]
    if asked == S:
        q, k, v = (
            F.linear(x, weight, bias).view(B, S, 3, heads, W // heads).permute(2, 0, 3, 1, 4)
        )  # 3 x (B, H, S, W/H)
    else:
        q = F.linear(x[:, :asked], weight[:W], bias[:W]).view(B, asked, heads, W // heads).transpose(1, 2)
        k, v = F.linear(x, weight[W:], bias[W:]).view(B, S, 2, heads, W // heads).permute(2, 0, 3, 1, 4)
    if S <= SHORT and x.device.type == "cpu":
        # torch's fused CPU kernel spends more on its set-up than a short sequence takes: its backward is 10 x slower here
        scores = q @ k.transpose(-1, -2) * (W // heads) ** -0.5  # (B, H, A, S)
        if causal:
            scores = scores + torch.full((S, S), float("-inf"), dtype=x.dtype).triu(1)
        out = scores.softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    out = out.transpose(1, 2).reshape(B, asked, W)
    return F.linear(out, w[f"{name}.out_proj.weight"], w[f"{name}.out_proj.bias"])


SHORT = 32  # tokens
