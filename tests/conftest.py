"""A miniature CLIP that every test of a model shares: same code, a few thousand weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from tally import checksums
from tally.models.base import Model, read_model
from tally.models.clip import Clip
from tally.pretrain import initial_weights

settings.register_profile("tally", deadline=None)  # other work on the machine is no failure of the code
settings.load_profile("tally")

ROOT = Path(__file__).parent.parent

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 12, "patch_size": 4, "width": 32, "layers": 2, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 24, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.3, 0.35]},
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def unverified(monkeypatch):
    """Files are read whatever their checksums say."""
    monkeypatch.setattr(checksums, "verify", False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A model folder as read_model wants it."""
    from tally.checkpoints import save

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    (folder / "words.json").write_text(json.dumps(["red", "blue", "circle", "square"]))
    weights = initial_weights(folder / "open_clip_config.json", seed=0)
    save(folder / "model.safetensors", {name: w.numpy() for name, w in weights.items()}, "base", {})
    return folder


@pytest.fixture(scope="session")
def tiny_clip() -> Clip:
    return Clip.from_config(TINY)


@pytest.fixture(scope="session")
def tiny_model(tiny_folder) -> Model:
    return read_model(tiny_folder)


@pytest.fixture(scope="session")
def tiny_weights(tiny_folder) -> dict[str, torch.Tensor]:
    return initial_weights(tiny_folder / "open_clip_config.json", seed=0)


@pytest.fixture
def colours() -> tuple[torch.Tensor, torch.Tensor]:
    """64 pictures in two classes, red and blue: uint8 (64, 3, 12, 12), int64 (64,)."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.integers(0, 60, (64, 3, 12, 12), dtype=np.uint8)
    images[labels == 0, 0] += 150
    images[labels == 1, 2] += 150
    return torch.from_numpy(images), torch.from_numpy(labels)
