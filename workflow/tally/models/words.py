"""The embedded model's tokenizer: a word it knows is one token, any other word is spelled."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SPELLING = "abcdefghijklmnopqrstuvwxyz0123456789"


def split(text: str) -> list[str]:
    return re.findall(r"[a-z]+|[0-9]", text.lower())


class Words:
    """Ids: 0 padding, then the characters of SPELLING, then the words; the last id of the vocabulary ends a text."""

    def __init__(self, words: Iterable[str], size: int):
        self.words = list(words)
        self.end = size - 1
        self.ids = {token: i for i, token in enumerate([*SPELLING, *self.words], start=1)}
        if len(self.ids) >= self.end:
            raise ValueError(f"{len(self.ids)} tokens do not fit a vocabulary of {size}")

    @classmethod
    def learn(cls, captions: Iterable[str], size: int) -> "Words":
        """The most frequent words of the captions, as many as fit."""
        counts = Counter(word for caption in captions for word in split(caption) if len(word) > 1)
        room = size - 2 - len(SPELLING)
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:room], size)

    @classmethod
    def load(cls, path: str | Path, size: int) -> "Words":
        return cls(json.loads(Path(path).read_text()), size)

    def encode(self, text: str, spell: frozenset[int] = frozenset()) -> list[int]:
        """Token ids without padding and end; the words whose place is in `spell` are spelled even if known."""
        ids: list[int] = []
        for place, word in enumerate(split(text)):
            known = word in self.ids and place not in spell
            ids += [self.ids[word]] if known else [self.ids[c] for c in word]
        return ids

    def batch(self, texts: Iterable[list[int]], context: int) -> np.ndarray:
        """Pad and end rows of ids: int64 (B, context); what is too long is cut."""
        rows = [ids[: context - 1] + [self.end] for ids in texts]
        return np.array([row + [0] * (context - len(row)) for row in rows], dtype=np.int64)
