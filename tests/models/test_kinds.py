"""What becomes of a model folder's weights in the base: tied ones are in it once, whatever the file holds."""

import json
from pathlib import Path

import numpy as np
import pytest
from tally.checkpoints import open_checkpoint, save
from tally.cli import main
from tally.models import kinds, t5

ROOT = Path(__file__).parents[2]
EMBEDDING = np.arange(40 * 16, dtype=np.float32).reshape(40, 16)
OTHERS = {"encoder.final_layer_norm.weight": np.ones(16, np.float32)}


@pytest.mark.parametrize("kept", [{}, {"lm_head.weight": EMBEDDING + 1}], ids=["original", "lm-adapt"])
def test_weights_stored_under_several_names_are_in_the_base_once(tmp_path, kept):
    weights = OTHERS | {name: EMBEDDING for name in ("shared.weight", *kinds.COPIES)} | kept
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "vocab_size": 40}))
    (tmp_path / "tokenizer.json").write_text("{}")
    save(tmp_path / "model.safetensors", weights, "model")
    base = tmp_path / "base.safetensors"
    assert main(["base", "--model", str(tmp_path / "model.safetensors"), "--output", str(base)]) == 0
    assert open_checkpoint(base).names == sorted(["shared.weight", *OTHERS, *kept])
    assert all(name.startswith(t5.DOMAIN + t5.FROZEN) for name in open_checkpoint(base).names)


def test_the_positions_of_a_bert_are_no_weights(tmp_path):
    save(tmp_path / "a.safetensors", OTHERS | dict.fromkeys(kinds.COUNTED, np.arange(4)), "model")
    assert kinds.once(open_checkpoint(tmp_path / "a.safetensors"), kinds.BERT) == list(OTHERS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"logit_scale": None}, "'logit_scale' is missing, which open_clip_config.json says is []"),
        ({"visual.proj": np.ones((3, 2), np.float32)}, "'visual.proj' is [3, 2], which open_clip_config.json says is"),
    ],
)
def test_a_clip_without_a_weight_of_its_config_is_one_line(tmp_path, capsys, change, said):
    source = ROOT / "resources" / "mini-clip"
    (tmp_path / "open_clip_config.json").symlink_to(source / "open_clip_config.json")
    weights = open_checkpoint(source / "model.safetensors")
    held = {name: weights[name] for name in weights.names} | change
    save(tmp_path / "model.safetensors", {name: w for name, w in held.items() if w is not None}, "model")
    out = tmp_path / "base.safetensors"
    assert main(["base", "--model", str(tmp_path / "model.safetensors"), "--output", str(out)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()
