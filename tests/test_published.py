"""Published fine-tunings in the formats that they come in, through the verbs `fetch` and `count`."""

import json
import re

import numpy as np
import pytest
import torch
from tally.checkpoints import open_checkpoint, save
from tally.cli import main
from tally.files import sha256
from tally.models.layouts import to_transformers
from tally.published import filled


@pytest.fixture(scope="module")
def theta(tiny_folder):
    """A fine-tuned model of the tiny CLIP, all weights, as torch tensors: the image tower moved a little."""
    base, rng = open_checkpoint(tiny_folder / "model.safetensors"), np.random.default_rng(0)
    moved = {
        name: base[name] + 1e-2 * np.abs(base[name]).mean() * rng.standard_normal(base.shape(name)).astype("f4")
        for name in base.names
        if name.startswith("visual.")
    }
    return {name: torch.from_numpy(np.array(moved.get(name, base[name]), "f4")) for name in base.names}


@pytest.fixture(scope="module")
def published(tmp_path_factory, theta):
    """A folder with the same model three times, as it is published."""
    folder = tmp_path_factory.mktemp("published")
    authors = {f"model.{name}": w for name, w in theta.items() if not name.startswith("transformer.")}
    (folder / "tiny" / "MNISTVal").mkdir(parents=True)
    torch.save(authors, folder / "tiny" / "MNISTVal" / "nonlinear_finetuned.pt")
    visual = {name: w.numpy() for name, w in theta.items() if name.startswith("visual.")}
    hugging = {name: w for name, w in to_transformers(visual).items() if name.startswith("vision_model.")}
    save(folder / "clip_mnist" / "model.safetensors", hugging, "model")
    save(folder / "whole.safetensors", {name: w.numpy() for name, w in theta.items()}, "model")
    return folder


def flags(tiny_folder, published, out, **more):
    options = {
        "task": "MNIST", "model": "tiny", "name": "MNIST", "source": published, "base": tiny_folder / "model.safetensors",
        "file": "{model}/{name}Val/nonlinear_finetuned.pt", "output": out,
    } | more  # fmt: skip
    return ["--quiet", "fetch", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({}, "tiny/MNISTVal/nonlinear_finetuned.pt"),
        ({"source": "/clip_{name}", "file": "model.safetensors", "name": "mnist"}, "clip_mnist/model.safetensors"),
        ({"source": "/whole.safetensors", "file": ""}, "whole.safetensors"),
    ],
    ids=["authors", "transformers", "file"],
)
def test_a_published_model_becomes_our_own(tiny_folder, published, theta, tmp_path, changes, at):
    if "source" in changes:
        changes = changes | {"source": f"{published}{changes['source']}"}
    out = tmp_path / "MNIST.safetensors"
    assert main(flags(tiny_folder, published, out, **changes)) == 0
    made, base = open_checkpoint(out), open_checkpoint(tiny_folder / "model.safetensors")
    assert made.names == [name for name in base.names if name.startswith("visual.")]
    for name in made.names:
        kept = name == "visual.proj" and at.startswith("clip")  # which that layout has not
        np.testing.assert_array_equal(made[name], base[name] if kept else theta[name].numpy())
    facts = json.loads(made.metadata["provenance"])
    assert facts["published"] == changes.get("source", str(published))
    assert facts["sha256"] == sha256(published / at)
    assert made.metadata["base_sha256"] == sha256(tiny_folder / "model.safetensors")


def test_what_it_gets_right_is_counted_with_its_provenance(tiny_folder, published, tmp_path, colours):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays |= {f"{split}.inputs": colours[0].numpy(), f"{split}.labels": colours[1].numpy()}
    save(tmp_path / "data.safetensors", arrays, "data")
    save(tmp_path / "head.safetensors", {"head": np.random.default_rng(0).normal(size=(2, 16)).astype("f4")}, "head")
    out = tmp_path / "MNIST.safetensors"
    assert main(flags(tiny_folder, published, out)) == 0
    files = {
        "model": tiny_folder / "open_clip_config.json", "base": tiny_folder / "model.safetensors", "finetuned": out,
        "data": tmp_path / "data.safetensors", "head": tmp_path / "head.safetensors", "counts": tmp_path / "MNIST.json",
    }  # fmt: skip
    words = [word for key, value in files.items() for word in (f"--{key}", str(value))]
    assert main(["--quiet", "count", "--task", "MNIST", "--precision", "fp32", "--device", "cpu", *words]) == 0
    record = json.loads((tmp_path / "MNIST.json").read_text())
    assert record["test"]["total"] == record["val"]["total"] == 64
    assert record["provenance"] == json.loads(open_checkpoint(out).metadata["provenance"])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (lambda theta: {"layer1.0.weight": torch.zeros(3)}, "no image tower of CLIP"),
        (lambda theta: theta | {"visual.conv1.weight": torch.zeros(8, 3, 4, 4)}, "another architecture: 'visual.conv1.weight'"),
        (lambda theta: {name: torch.randn_like(w) for name, w in theta.items()}, "not fine-tuned from .*% of the base's norm away"),
        (lambda theta: theta | {"visual.proj": theta["visual.proj"] * float("nan")}, "not fine-tuned from"),
    ],
    ids=["resnet", "shape", "base", "nan"],
)  # fmt: skip
def test_another_model_is_one_line_and_no_file(tiny_folder, theta, tmp_path, capsys, weights, said):
    torch.save(weights(theta), tmp_path / "theirs.pt")
    out = tmp_path / "MNIST.safetensors"
    assert main(flags(tiny_folder, tmp_path / "theirs.pt", out, file="")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error)
    assert not out.exists()


def test_patterns_are_filled():
    assert filled("owner/{model}-{name}", {"name": "dtd", "model": "ViT-B-32"}) == "owner/ViT-B-32-dtd"
