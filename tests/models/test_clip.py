import copy

import open_clip
import pytest
import torch
from conftest import TINY
from tally.models import clip as ours
from tally.models.architecture import architecture
from tally.models.clip import Clip, encode_image, encode_text


def thin(name):
    """One of the paper's models, narrow: its own resolution, patches, depth, context, vocabulary and quick_gelu."""
    config = copy.deepcopy(architecture(name))
    model = config["model_cfg"]
    model["embed_dim"] = 16
    model["vision_cfg"] |= {"width": 32, "head_width": 16}
    model["text_cfg"] |= {"width": 16, "heads": 2}
    return config


CONFIGS = {
    "tiny": TINY,
    "quick_gelu": {**TINY, "model_cfg": {**TINY["model_cfg"], "quick_gelu": True}},
    "ViT-B-32": thin("ViT-B-32-quickgelu"),
    "ViT-L-14": thin("ViT-L-14-quickgelu"),
}


def reference(config):
    """open_clip's own model, with biases and norms away from their initial zeros and ones."""
    torch.manual_seed(0)
    model = open_clip.CLIP(**copy.deepcopy(config["model_cfg"])).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return model, {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("short", [0, 32])
def test_same_features_as_open_clip(name, short, monkeypatch):
    monkeypatch.setattr(ours, "SHORT", short)  # both ways to attend
    config = CONFIGS[name]
    model, weights = reference(config)
    clip = Clip.from_config(config)
    images = torch.randint(0, 256, (3, 3, clip.resolution, clip.resolution), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.std))
    with torch.inference_mode():
        theirs = model.encode_image((images / 255 - mean) / std, normalize=True)
        torch.testing.assert_close(encode_image(weights, clip, images), theirs, atol=1e-5, rtol=0)

        tokens = torch.zeros(3, clip.context, dtype=torch.int64)
        for row, length in zip(tokens, (2, 1, clip.context - 1)):
            row[:length] = torch.arange(1, length + 1)
            row[length] = config["model_cfg"]["text_cfg"]["vocab_size"] - 1  # the end
        theirs = model.encode_text(tokens, normalize=True)
        torch.testing.assert_close(encode_text(weights, clip, tokens), theirs, atol=1e-5, rtol=0)


def test_features_have_unit_length_also_in_half_precision(tiny_weights, tiny_clip):
    half = {name: w.bfloat16() for name, w in tiny_weights.items()}
    features = encode_image(half, tiny_clip, torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_a_batch_does_not_mix_its_images(tiny_weights, tiny_clip):
    images = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8)
    together = encode_image(tiny_weights, tiny_clip, images)
    alone = torch.cat([encode_image(tiny_weights, tiny_clip, image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
