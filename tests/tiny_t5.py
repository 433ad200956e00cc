"""A folder with a T5 of a few thousand random weights and its tokenizer, and miniatures of data sets for it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

CONFIG = {
    "vocab_size": 48, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
    "relative_attention_num_buckets": 8, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip


def make(folder: Path, **changes) -> Path:
    """model.safetensors and config.json by transformers, tokenizer.json by tokenizers: words, a character each if unknown."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**CONFIG | changes))
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))  # of its own, as lm-adapt's
    model.save_pretrained(folder)
    signs = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789.,:?-_"]
    fast = Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(signs)}, unk_token="<unk>"))
    fast.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"\s"), "")])
    fast.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.save(str(folder / "tokenizer.json"))
    return folder


def examples(path: Path, make: Callable[[int], dict], numbers: Iterable[int]) -> None:
    """One file of a data set, a line an example."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(make(i)) + "\n" for i in numbers), encoding="utf-8")


def choices(i, n):
    return {"text": [f"choice {c} of {i}" for c in range(n)], "label": list("ABCDEFGH"[:n])}


MINIATURES = {  # the columns of each data set on the hub, and an example
    "paws": lambda i: {"id": i, "sentence1": f"a b {i}", "sentence2": f"b a {i}", "label": i % 2},
    "qasc": lambda i: {
        "id": str(i), "question": f"what {i}", "choices": choices(i, 8), "answerKey": "ABCDEFGH"[i % 8], "fact1": f"one {i}",
        "fact2": f"two {i}", "combinedfact": f"three {i}", "formatted_question": f"what {i} (A) ...",
    },
    "quartz": lambda i: {
        "id": str(i), "question": f"more or less {i}", "choices": choices(i, 2), "answerKey": "AB"[i % 2], "para": f"p {i}",
        "para_id": "x", "para_anno": {"effect_prop": ""}, "question_anno": {"less_cause_prop": ""},
    },
    "story_cloze": lambda i: {
        "story_id": str(i), **{f"input_sentence_{n}": f"s{n} {i}." for n in (1, 2, 3, 4)}, "sentence_quiz1": f"good {i}",
        "sentence_quiz2": f"bad {i}", "answer_right_ending": 1 + i % 2,
    },
    "wiki_qa": lambda i: {
        "question_id": f"Q{i}", "question": f"who {i}", "document_title": f"title {i}", "answer": f"he {i}", "label": i % 2
    },
    "winogrande": lambda i: {"sentence": f"the _ is {i}", "option1": f"cup {i}", "option2": f"jar {i}", "answer": "12"[i % 2]},
    "wsc": lambda i: {
        "text": f"Ann saw Eve when she {i}", "span1_index": 0, "span2_index": 4, "span1_text": "Ann", "span2_text": "she",
        "idx": i, "label": i % 2,
    },
    "cosmos_qa": lambda i: {
        "id": str(i), "context": f"rain {i}", "question": f"why {i}", **{f"answer{n}": f"a{n} {i}" for n in range(4)}, "label": i % 4
    },
    "social_iqa": lambda i: {
        "context": f"Ann {i}", "question": f"feel {i}", **{f"answer{n}": f"{n} {i}" for n in "ABC"}, "label": "123"[i % 3]
    },
    "quail": lambda i: {
        "id": str(i), "context_id": "f", "question_id": "0", "domain": "fiction", "metadata": {"author": ""},
        "context": f"long {i}", "question": f"who {i}", "question_type": "x", "answers": [f"a{n} {i}" for n in range(4)],
        "correct_answer_id": i % 4,
    },
    "ropes": lambda i: {
        "id": str(i), "background": f"b {i}", "situation": f"s {i}", "question": f"q {i}", "answers": {"text": [f"team {i}"]}
    },
}  # fmt: skip
