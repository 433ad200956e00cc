"""What restore and merge write is what transformers' from_pretrained reads, out of checkpoints that it wrote in shards."""

import shutil

import pytest
import torch
from tally.bundle import open_bundle
from tally.cli import main

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tiny():
    """A CLIP of a few thousand weights."""
    from transformers import CLIPConfig, CLIPModel

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = size | {"image_size": 8, "patch_size": 4}
    config = CLIPConfig(text_config=size | {"vocab_size": 50}, vision_config=vision, projection_dim=8)
    return CLIPModel, config


def test_models_load(tmp_path, monkeypatch, tiny):
    kind, config = tiny
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "cars", "mnist")):
        torch.manual_seed(seed)
        kind(config).save_pretrained(name, max_shard_size="20KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    given = ["--base", "base", "--finetuned", "cars=cars", "mnist=mnist"]
    assert main(["compress", *given, "--domain", "vision_model.*", "--output", "bundle"]) == 0
    wanted = dict(open_bundle("bundle", base="base")["cars"])

    def loaded(file):
        """The model in a folder of config.json and this file."""
        folder = tmp_path / "loaded"
        folder.mkdir(exist_ok=True)
        shutil.copy("base/config.json", folder)
        shutil.move(file, folder / "model.safetensors")
        model, told = kind.from_pretrained(folder, output_loading_info=True)
        assert not any(told.values())
        return model.state_dict()

    assert main(["restore", "bundle", "--task", "cars", "--base", "base", "--output", "model.safetensors"]) == 0
    found = loaded("model.safetensors")
    assert found.keys() >= wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert main(["merge", *given, "--method", "weight-average", "--output", "model.safetensors"]) == 0
    found, tuned = loaded("model.safetensors"), [kind.from_pretrained(name).state_dict() for name in ("cars", "mnist")]
    for name in wanted:
        torch.testing.assert_close(found[name], (tuned[0][name] + tuned[1][name]) / 2)
