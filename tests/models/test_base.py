import re

import pytest
import torch
from conftest import ROOT
from tally.checkpoints import open_checkpoint
from tally.errors import TallyError
from tally.evaluate import tensors
from tally.files import sha256
from tally.models.base import read_model
from tally.models.clip import encode_text
from tally.models.words import Words


def test_head_is_the_renormalised_mean_of_the_templates(tiny_folder, tiny_weights, tiny_clip, tiny_model):
    words = Words.load(tiny_folder / "words.json", 64)

    def features(text):
        tokens = torch.from_numpy(words.batch([words.encode(text)], tiny_clip.context))
        return encode_text(tiny_weights, tiny_clip, tokens)[0]

    templates = ("a {}", "the {} here")
    head = tiny_model.head(tiny_weights, ("red circle", "blue square", "green"), templates)
    expected = []
    for name in ("red circle", "blue square", "green"):
        mean = sum(features(t.format(name)) for t in templates) / len(templates)
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
    weights = open_checkpoint(folder / "model.safetensors")
    vocabulary = weights.shape("token_embedding.weight")[0]
    assert Words.load(folder / "words.json", vocabulary).end == vocabulary - 1
    head = read_model(folder).head(tensors(weights), ("a large red circle", "greek small letter alpha"), ("{}",))
    assert head.shape == (2, weights.shape("visual.proj")[1])
