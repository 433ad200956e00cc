import copy
from math import prod

import open_clip
import pytest
from conftest import TINY
from tally.errors import TallyError
from tally.models.architecture import architecture, shapes, text_transformer, weights_of

PAPER = {  # domain, and what the paper stores beside it once (their tables' arithmetic)
    "ViT-B-32-quickgelu": (87_849_216, 25_599_489),
    "ViT-B-16-quickgelu": (86_192_640, 25_599_489),
    "ViT-L-14-quickgelu": (303_966_208, 38_595_841),
}


def test_names_and_shapes_are_open_clips():
    model = open_clip.CLIP(**copy.deepcopy(TINY["model_cfg"]))
    assert shapes(TINY) == {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_have_the_papers_weights(name):
    config = architecture(name)
    assert config["model_cfg"]["quick_gelu"]
    domain = sum(prod(shape) for weight, shape in shapes(config).items() if weight.startswith("visual."))
    assert (domain, weights_of(config) - domain) == PAPER[name]
    assert weights_of(config) < sum(prod(shape) for shape in shapes(config).values())


def test_the_text_transformer_is_not_the_images():
    assert text_transformer("transformer.resblocks.0.ln_1.bias")
    assert not text_transformer("visual.transformer.resblocks.0.ln_1.bias")


def test_other_architectures_are_told():
    with pytest.raises(TallyError, match=r"'ViT-B-31'.*ViT-B-32-quickgelu"):
        architecture("ViT-B-31")
    with pytest.raises(TallyError, match="no CLIP"):
        shapes(architecture("ViT-B-16-SigLIP"))
