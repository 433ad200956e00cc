"""Both libraries' own models, randomly initialised: the same weights under other names give the same features."""

import copy

import numpy as np
import open_clip
import pytest
import torch
from conftest import TINY
from tally.checkpoints import as_checkpoint, open_checkpoint, save
from tally.cli import main
from tally.errors import TallyError
from tally.models.clip import Clip, encode_image
from tally.models.layouts import image_tower, to_open_clip, to_transformers

QUICK = {**TINY, "model_cfg": {**TINY["model_cfg"], "quick_gelu": True}}  # as OpenAI's, and transformers' default
IMAGES = torch.randint(0, 256, (4, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def shaken(model):
    """Biases and norms away from their initial zeros and ones."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@pytest.fixture(scope="module")
def theirs():
    """transformers' CLIPVisionModelWithProjection of TINY's shapes."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(**shape, image_size=12, patch_size=4, projection_dim=16, hidden_act="quick_gelu")
    return shaken(CLIPVisionModelWithProjection(config))


@pytest.fixture(scope="module")
def ours():
    """open_clip's CLIP of TINY's shapes."""
    torch.manual_seed(1)
    return shaken(open_clip.CLIP(**copy.deepcopy(QUICK["model_cfg"])))


def arrays(model):
    return {name: w.numpy() for name, w in model.state_dict().items()}


def features(model):
    """Of transformers' model, on pixels as ours are."""
    clip = Clip.from_config(QUICK)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.mean, clip.std))
    with torch.inference_mode():
        embeds = model(pixel_values=(IMAGES / 255 - mean) / std).image_embeds
    return torch.nn.functional.normalize(embeds, dim=-1)


def test_their_weights_here(theirs):
    weights = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in to_open_clip(arrays(theirs)).items()}
    torch.testing.assert_close(
        encode_image(weights, Clip.from_config(QUICK), IMAGES), features(theirs), atol=1e-5, rtol=0
    )


def test_our_weights_there(ours, theirs):
    visual = {name: w for name, w in arrays(ours).items() if name.startswith("visual.")}
    there = copy.deepcopy(theirs)
    there.load_state_dict({name: torch.tensor(w) for name, w in to_transformers(visual).items()})
    expected = encode_image({name: torch.from_numpy(w) for name, w in visual.items()}, Clip.from_config(QUICK), IMAGES)
    torch.testing.assert_close(features(there), expected, atol=1e-5, rtol=0)


def test_there_and_back(ours):
    visual = {name: w for name, w in arrays(ours).items() if name.startswith("visual.")}
    again = to_open_clip(to_transformers(visual))
    assert again.keys() == visual.keys()
    for name, weight in visual.items():
        np.testing.assert_array_equal(again[name], weight)


def test_an_image_tower_is_found_in_whatever_holds_it(ours, theirs):
    base = as_checkpoint(arrays(ours), "base")
    visual = {name: w for name, w in arrays(ours).items() if name.startswith("visual.")}
    hugging = to_transformers(visual) | {"vision_model.embeddings.position_ids": np.arange(10)}
    without = {name: w for name, w in hugging.items() if name != "visual_projection.weight"}
    for held in (
        arrays(ours),  # open_clip's CLIP
        {f"model.{name}": w for name, w in arrays(ours).items() if not name.startswith("transformer.")},  # the authors'
        {name.removeprefix("visual."): w for name, w in visual.items()},
        hugging,
        without,
        {name.removeprefix("vision_model."): w for name, w in without.items()},
    ):
        found = image_tower(as_checkpoint(held, "other"), base)
        assert found.keys() == visual.keys()
        for name, weight in visual.items():
            np.testing.assert_array_equal(found[name], weight)
            assert found[name].flags.c_contiguous


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w | {"visual.conv1.weight": w["visual.conv1.weight"][:8]}, r"another architecture: 'visual.conv1.weight' is \[8"),
        (lambda w: {n: a for n, a in w.items() if "resblocks.1" not in n}, "lacks 'visual.transformer.resblocks.1"),
        (lambda w: w | {"visual.transformer.resblocks.2.ln_1.bias": w["visual.ln_pre.bias"]}, r"has 'visual.transformer.resblocks.2"),
        (lambda w: {"layer1.0.weight": np.zeros(3, np.float32)}, "no image tower.*'layer1.0.weight'"),
        (lambda w: {}, "no image tower.*'nothing'"),
    ],
)  # fmt: skip
def test_another_architecture_is_one_line(ours, change, said):
    base = as_checkpoint(arrays(ours), "base")
    with pytest.raises(TallyError, match=said):
        image_tower(as_checkpoint(change(arrays(ours)), "other"), base)


def test_half_an_attention_is_one_line(ours):
    visual = {name: w for name, w in arrays(ours).items() if name.startswith("visual.")}
    broken = {name: w for name, w in to_transformers(visual).items() if "k_proj" not in name}
    with pytest.raises(TallyError, match="without its k_proj"):
        to_open_clip(broken)


def test_convert_takes_an_image_tower_there_and_back(ours, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("ours.safetensors", "theirs.safetensors", "again.safetensors")]
    save(files[0], arrays(ours), "model")
    assert main(["convert", *files[:2], "--layout", "transformers", "--dtype", "bf16"]) == 0
    theirs = open_checkpoint(files[1])
    assert theirs.shape("visual_projection.weight") == (16, 32)
    assert theirs.dtype("vision_model.encoder.layers.1.self_attn.v_proj.bias") == "BF16"
    assert main(["convert", *files[1:], "--layout", "open_clip"]) == 0
    again, start = open_checkpoint(files[2]), open_checkpoint(files[0])
    assert again.names == [name for name in start.names if name.startswith("visual.")]
    for name in again.names:
        np.testing.assert_allclose(again.float32(name), start[name], rtol=1 / 256)
    assert main(["--quiet", "convert", files[0], files[1], "--force", "--layout", "open_clip"]) == 2
    assert "has no vision_model. or visual_projection.*" in capsys.readouterr().err
