"""A sentence encoder of a few thousand random weights, as a model folder of transformers."""

import json
from pathlib import Path

import torch
from tally.checkpoints import save

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "a",
    "cat",
    "dog",
    "fish",
    "red",
    "blue",
    "green",
    "runs",
    "sleeps",
    "swims",
    "fast",
]
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3,
    "num_hidden_layers": 2, "max_position_embeddings": 16, "vocab_size": len(WORDS), "layer_norm_eps": 1e-12,
    "pad_token_id": 0, "type_vocab_size": 2,
}  # fmt: skip

ANIMALS, COLOURS, DEEDS = ("cat", "dog", "fish"), ("red", "blue", "green"), ("runs", "sleeps", "swims")
TEXTS = [  # four or six words, the numbered ones unknown to the tokenizer
    f"{c} {a} {d} x{n}{c}{a}{d}" + f" y{n}{c}{a}{d} z{n}{c}{a}{d}" * (n % 2)
    for n in range(4)
    for a in ANIMALS
    for c in COLOURS
    for d in DEEDS
]


def module(large: bool = True):
    """transformers' BertModel, its weights so `large` that everything matters, or as a training begins."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig(**CONFIG), add_pooling_layer=False).eval()
    for weight in model.parameters() if large else ():
        weight.data = torch.randn_like(weight) * 0.3
    return model


def weights(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters()}


def write_folder(folder: Path, words: list[str] = WORDS, large: bool = True) -> Path:
    """config.json, tokenizer.json, model.safetensors."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(parents=True, exist_ok=True)
    fast = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast.enable_truncation(6)  # as published tokenizers have them, for ends of their own
    fast.enable_padding(length=9)
    fast.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    positions = {"embeddings.position_ids": torch.arange(CONFIG["max_position_embeddings"])[None].numpy()}
    stored = {name: w.numpy() for name, w in weights(module(large)).items()} | positions  # as older transformers did
    save(folder / "model.safetensors", stored, "base", {})
    return folder
