import re

import pytest
import torch
from conftest import ROOT
from tally.checkpoints import open_checkpoint
from tally.errors import TallyError
from tally.files import sha256
from tally.models.base import read_model, zero_shot_head
from tally.models.clip import encode_text


def test_head_is_the_renormalised_mean_of_the_templates(tiny_folder, tiny_weights):
    model = read_model(tiny_folder)
    templates = ("a {}", "the {} here")
    head = zero_shot_head(tiny_weights, model, ("red circle", "blue square", "green"), templates)
    expected = []
    for name in ("red circle", "blue square", "green"):
        features = [encode_text(tiny_weights, model.clip, model.tokenize([t.format(name)]))[0] for t in templates]
        mean = sum(features) / len(features)
        expected.append(mean / mean.norm() * tiny_weights["logit_scale"].exp())
    torch.testing.assert_close(head, torch.stack(expected))


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(TallyError, match=r"holds no open_clip_config\.json"):
        read_model(tmp_path)


def test_the_shipped_model_is_the_described_one():
    folder = ROOT / "resources" / "mini-clip"
    described = re.search(r"sha256 `(\w+)`", (ROOT / "resources" / "README.md").read_text())[1]
    assert sha256(folder / "model.safetensors") == described
    assert (folder / "model.safetensors").stat().st_size < 12_000_000
    words = read_model(folder).tokenize(["a large red circle", "greek small letter alpha"])
    weights = open_checkpoint(folder / "model.safetensors")
    assert int(words.max()) == weights.shape("token_embedding.weight")[0] - 1
