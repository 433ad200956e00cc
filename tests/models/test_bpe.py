import open_clip
import torch
from tally.models.bpe import tokenize


def test_tokens_are_open_clips():
    texts = ["a photo of a 1991 Volkswagen Golf Hatchback, a type of car.", 'the digit: "7".', "Straße", "x " * 200]
    assert torch.equal(tokenize(texts, 77), open_clip.tokenize(texts))


def test_known_ids_of_openais_vocabulary():
    row = tokenize(["a photo of a cat"], 8)[0].tolist()
    assert row == [49406, 320, 1125, 539, 320, 2368, 49407, 0]  # from OpenAI's own notebook vocabulary
    assert tokenize(["x " * 200], 10)[0].argmax() == 9  # cut, but ended: the end is the largest id
