"""What a run starts from: a folder with a model's config and tokenizer, read into pure functions of its weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from tally.data.augment import MOVED, Augment, cropping
from tally.files import read_json
from tally.models import bert, bpe, kinds, t5
from tally.models.clip import Clip, Weights, encode_image, encode_text
from tally.models.tokens import Tokenizer
from tally.models.words import Words
from torch import Tensor

NOTHING: Mapping[str, Tensor] = MappingProxyType({})  # no frozen weights
Terms = Callable[[Tensor, Tensor], Tensor]  # of inputs and labels: int64 (B,)


class Model(NamedTuple):
    """A model without its weights. All that training and evaluation know of it, whatever it reads.

    B examples, E width of the features, C classes. Weights are a dict of the checkpoint's names.
    """

    encode: Callable[[Weights, Tensor], Tensor]  # weights in the arithmetic's dtype, inputs (B, ...) -> float32 (B, E)
    head: Callable[[Weights, Sequence[str], Sequence[str]], Tensor]  # all weights, classes, templates -> float32 (C, E)
    domain: tuple[str, ...]  # how the names of the weights begin that fine-tuning changes
    frozen: tuple[str, ...] = ()  # and of the others that `encode` reads
    augment: Augment | None = None  # what training does to its inputs on the fly
    loss: Callable[[Weights, Tensor, Tensor], Tensor] | None = None  # what is trained for, if no cross entropy
    terms: Terms | None = None  # how many terms each example has in that loss's mean, if not one


def read_model(folder: Path) -> Model:
    """The model of a folder such as resources/mini-clip; what it is its config tells, see `tally.models.kinds`."""
    return READERS[kinds.kind_of(folder)](folder)


def read_clip(folder: Path) -> Model:
    """`open_clip_config.json`, and `words.json` if it has its own words.

    Without words.json it is one of open_clip's, with OpenAI's tokenizer and the training pictures cropped as the authors do.
    """
    config = read_json(folder / kinds.CLIP.config)
    clip = Clip.from_config(config)
    own = folder / "words.json"
    words = Words.load(own, config["model_cfg"]["text_cfg"]["vocab_size"]) if own.exists() else None

    def tokenize(texts: Sequence[str]) -> Tensor:
        if words is None:
            return bpe.tokenize(texts, clip.context)
        return torch.from_numpy(words.batch([words.encode(text) for text in texts], clip.context))

    return Model(
        encode=lambda weights, images: encode_image(weights, clip, images),
        head=partial(zero_shot_head, clip, tokenize),
        domain=("visual.",),
        augment=cropping(clip.resolution) if words is None else MOVED,
    )


def read_t5(folder: Path) -> Model:
    """A transformers T5ForConditionalGeneration that answers questions with choices: `config.json`."""
    network = t5.T5.from_config(read_json(folder / kinds.T5.config))
    return Model(
        encode=lambda weights, inputs: t5.scores(weights, network, inputs),
        head=lambda weights, classes, templates: t5.identity_head(classes),
        domain=t5.DOMAIN,
        frozen=t5.FROZEN,
        loss=lambda weights, inputs, labels: t5.answer_loss(weights, network, inputs, labels),
        terms=t5.answer_ids,
    )


def read_bert(folder: Path) -> Model:
    """A transformers BertModel as a sentence encoder: `config.json` and `tokenizer.json`."""
    network, tokenizer = bert.Bert.from_config(read_json(folder / kinds.BERT.config)), Tokenizer(folder)

    def encode(weights: Weights, tokens: Tensor) -> Tensor:
        return bert.encode(weights, network, tokens)

    def head(weights: Weights, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
        sentences = [template.format(name) for name in classes for template in templates]
        advice = "shorten the label or its template"
        ids = tokenizer.tokens(sentences, network.context, what="label sentences", cut=False, advice=advice).ids
        with torch.inference_mode():
            features = encode(weights, torch.from_numpy(ids)).view(len(classes), len(templates), -1).mean(dim=1)
            return torch.nn.functional.normalize(features, dim=-1) * LOGIT_SCALE

    return Model(encode, head, domain=("encoder.",), frozen=("embeddings.",))


LOGIT_SCALE = 20.0  # of a sentence encoder's cosines: what sentence-transformers trains them with
READERS = {kinds.CLIP: read_clip, kinds.BERT: read_bert, kinds.T5: read_t5}


def adapted(model: Model, names: Iterable[str]) -> Model:
    """The model whose base has these weights: where an adapter is among them, it alone learns."""
    if not any(name.startswith(kinds.ADAPTER) for name in names):
        return model
    return model._replace(domain=(kinds.ADAPTER,), frozen=model.domain + model.frozen)


def compiled(model: Model, backend: str = "inductor") -> Model:
    """The model with an encoder that torch.compile fuses when it is first called; results differ by rounding.

    What cannot be compiled, for want of a compiler say, is told in a warning and computed as it is.
    """
    torch._dynamo.config.suppress_errors = True
    return model._replace(encode=torch.compile(model.encode, backend=backend))


def zero_shot_head(
    clip: Clip, tokenize: Callable[[Sequence[str]], Tensor], weights: Weights, classes: Sequence[str], templates: Sequence[str]
) -> Tensor:  # fmt: skip
    """Frozen classifier of a task from its label texts: float32 (C, E), times the logit scale.

    Per class the mean over the templates of L2-normalised text features, normalised again (paper §4).
    `weights` are the base's, all of them; a template holds one {}. `tokenize`: texts to int64 (B, context).
    """
    rows = []
    with torch.inference_mode():
        for name in classes:
            features = encode_text(weights, clip, tokenize([t.format(name) for t in templates]))
            rows.append(torch.nn.functional.normalize(features.mean(dim=0), dim=0))
        return torch.stack(rows) * weights["logit_scale"].exp()
