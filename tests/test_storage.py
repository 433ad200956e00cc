import pytest
import torch
from tally.errors import TallyError
from tally.merging import METHODS
from tally.models.kinds import COPIES
from tally.models.t5 import DOMAIN, FROZEN
from tally.storage import FORMULAS, PAPER, format_parts, gigabits
from tally.tables import LABELS

# P and F of open_clip's models, and what the paper's main table prints: merging rows, fine-tuned, masks; 8, 14, 20 tasks.
MODELS = {
    "ViT-B/32": (87_849_216, 25_599_489, 3.6, [23.3, 40.2, 57.0], [7.1, 7.7, 8.2]),
    "ViT-L/14": (303_966_208, 38_595_841, 11.0, [79.1, 137.4, 195.8], [23.1, 24.9, 26.8]),
}
TEXT = {7: (169.1, 54.3), 8: (193.1, 55.1), 11: (265.1, 57.3)}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_every_cell_of_the_vision_table(model, column):
    domain, frozen, merging, finetuned, masked = MODELS[model]
    sizes = {"domain_weights": domain, "frozen_weights": frozen, "tasks": [8, 14, 20][column]}
    for method in FORMULAS:
        printed = merging
        if method == "fine-tuned":
            printed = finetuned[column]
        elif method.startswith(("tall", "magnitude")):
            printed = masked[column]
        assert round(gigabits(method, **sizes), 1) == printed, method


def test_the_text_table_from_t5s_own_shapes():
    """google/t5-large-lm-adapt as transformers builds it, tied weights once; the embedding is frozen."""
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        d_model=1024, d_kv=64, d_ff=2816, num_layers=24, num_heads=16, vocab_size=32128, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.T5ForConditionalGeneration(config)
    copies = COPIES.keys() - {"lm_head.weight"}  # lm-adapt has one of its own
    weights = {name: weight.numel() for name, weight in model.state_dict().items() if name not in copies}
    domain, frozen = (sum(n for name, n in weights.items() if name.startswith(part)) for part in (DOMAIN, FROZEN))
    assert domain + frozen == sum(weights.values()) == 783_150_080
    for tasks, printed in TEXT.items():
        own = {"domain_weights": domain, "frozen_weights": frozen, "tasks": tasks}
        assert (round(gigabits("fine-tuned", **own), 1), round(gigabits("tall-ties", **own), 1)) == printed
        assert round(gigabits("zero-shot", **own), 1) == round(gigabits("consensus-ties", **own), 1) == 25.1


@pytest.mark.parametrize(("tasks", "smaller"), [(2, False), (3, True), (20, True)])
def test_masks_pay_from_three_tasks_on(tasks, smaller):
    sizes = {"domain_weights": 87_849_216, "frozen_weights": 25_599_489, "tasks": tasks}
    assert (gigabits("tall-ties", **sizes) < gigabits("fine-tuned", **sizes)) == smaller


def test_every_method_has_a_formula():
    assert set(METHODS) | set(LABELS) <= set(FORMULAS)
    with pytest.raises(TallyError, match="unknown method 'x'"):
        gigabits("x", domain_weights=1, frozen_weights=1, tasks=1)


def test_a_formats_name_is_what_writes_it():
    assert format_parts(PAPER) == {"base_dtype": "fp32", "vector_dtype": "fp32", "mask_codec": "packed"}
    assert list(format_parts("fp16-int8-zstd").values()) == ["fp16", "int8", "zstd"]
    for name in ("fp16-int8", "fp16", "a-b-c-d"):
        with pytest.raises(
            TallyError, match=f"unknown storage format '{name}'; it is base dtype-vector dtype-mask codec"
        ):
            format_parts(name)
