import copy
import json
import warnings

import numpy as np
import open_clip
import pytest
import torch
from conftest import TINY
from tally.checkpoints import as_checkpoint, open_checkpoint, save
from tally.cli import main
from tally.errors import TallyError
from tally.evaluate import tensors
from tally.models import architecture as known
from tally.models.base import read_model
from tally.models.pretrained import write_config, write_model

# as OpenAI's in everything but size
THIN = copy.deepcopy(TINY)
THIN["model_cfg"] |= {"quick_gelu": True}
THIN["model_cfg"]["text_cfg"] |= {"context_length": 77, "vocab_size": 49408}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder of random weights, made by the verb."""
    folder = tmp_path_factory.mktemp("thin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known, "architecture", lambda name: THIN)
        flags = ["--architecture", "thin", "--seed", "1", "--output", str(folder / "model.safetensors")]
        assert main(["base-model", "--source", "random", *flags]) == 0
    return folder


def test_random_weights_are_open_clips_and_their_own_provenance(folder):
    model, text = open_checkpoint(folder / "model.safetensors"), open_checkpoint(folder / "text.safetensors")
    assert json.loads(model.metadata["provenance"]) == {"source": "random", "seed": 1}
    assert {*model.names, *text.names} == known.shapes(THIN).keys()
    assert all(name.startswith("transformer.") for name in text.names)
    assert not any(name.startswith("transformer.") for name in model.names)
    assert model["visual.ln_pre.weight"].min() == 1  # as a norm begins


def test_heads_are_made_with_openais_tokenizer_and_quick_gelu(folder):
    weights = tensors(open_checkpoint(folder / "model.safetensors")) | tensors(
        open_checkpoint(folder / "text.safetensors")
    )
    model = read_model(folder)
    classes, templates = ("a Siamese cat", "zucchini"), ("a photo of a {}.", "a {} in Zürich")
    theirs = open_clip.CLIP(**copy.deepcopy(THIN["model_cfg"])).eval()
    theirs.load_state_dict({name: w.clone() for name, w in weights.items()})
    rows = []
    with torch.inference_mode():
        for name in classes:
            features = theirs.encode_text(open_clip.tokenize([t.format(name) for t in templates]), normalize=True)
            rows.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
        expected = torch.stack(rows) * theirs.logit_scale.exp()
    head = model.head(weights, classes, templates)
    torch.testing.assert_close(head / head.norm(), expected / expected.norm(), atol=1e-5, rtol=0)


def test_open_clips_models_are_trained_on_crops(folder, tiny_folder):
    crops, shifts = read_model(folder).augment, read_model(tiny_folder).augment
    images = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    for augment, drawn in ((crops, 4), (shifts, 2)):
        rows = augment.draw(2, np.random.default_rng(0))
        assert rows.shape == (drawn, 2)
        assert augment.apply(images, rows).shape == images.shape


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {n: a for n, a in w.items() if n != "logit_scale"}, "lacks 'logit_scale'"),
        (lambda w: w | {"visual.proj": w["visual.proj"].T}, r"another architecture: 'visual.proj' is \[16, 32\] instead of \[32, 16\]"),
    ],
)  # fmt: skip
def test_weights_of_another_architecture_are_one_line(folder, tmp_path, change, said):
    whole = open_checkpoint(folder / "model.safetensors"), open_checkpoint(folder / "text.safetensors")
    weights = {name: part[name] for part in whole for name in part.names}
    with pytest.raises(TallyError, match=said):
        write_model(tmp_path, THIN, as_checkpoint(change(weights), "theirs"), {})
    assert not list(tmp_path.iterdir())


def test_a_folder_of_open_clips_weights_becomes_the_same_model(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(known, "architecture", lambda name: THIN)
    whole = open_checkpoint(folder / "model.safetensors"), open_checkpoint(folder / "text.safetensors")
    save(tmp_path / "open_clip_model.safetensors", {n: p[n] for p in whole for n in p.names}, "model")
    flags = ["--architecture", "thin", "--output", str(tmp_path / "made" / "model.safetensors")]
    assert main(["base-model", "--source", str(tmp_path), *flags]) == 0
    for name in ("model", "text"):
        made, again = (open_checkpoint(place / f"{name}.safetensors") for place in (tmp_path / "made", folder))
        assert made.names == again.names
        for weight in made.names:
            np.testing.assert_array_equal(made[weight], again[weight])
    facts = json.loads(open_checkpoint(tmp_path / "made" / "model.safetensors").metadata["provenance"])
    assert facts["source"] == str(tmp_path)
    assert len(facts["sha256"]) == 64


def test_torchscript_is_refused_not_run(tmp_path, capsys):
    """OpenAI's own .pt files: programs, with weights in them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch has given it up
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    flags = ["--architecture", "ViT-B-32-quickgelu", "--output", str(tmp_path / "made" / "model.safetensors")]
    assert main(["--quiet", "base-model", "--source", str(tmp_path / "ViT-B-32.pt"), "--file", "", *flags]) == 2
    said = capsys.readouterr().err
    assert "is TorchScript, a program with weights in it" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_the_config_is_the_architectures(tmp_path):
    path = write_config(tmp_path, known.architecture("ViT-L-14-quickgelu"))
    assert json.loads(path.read_text())["model_cfg"]["vision_cfg"]["width"] == 1024
