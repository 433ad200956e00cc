"""The embedded model's tokenizer: a word it knows is one token, any other word is spelled."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tally.errors import TallyError

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
            raise TallyError(
                f"words.json: {len(self.ids)} tokens do not fit the vocabulary of {size} in open_clip_config.json"
            )

    @classmethod
    def learn(cls, captions: Iterable[str], size: int) -> "Words":
        """The most frequent words of the captions, as many as fit."""
        counts = Counter(word for caption in captions for word in split(caption) if len(word) > 1)
        room = size - 2 - len(SPELLING)
        return cls(sorted(counts, key=lambda word: (-counts[word], word))[:room], size)

    @classmethod
    def load(cls, path: Path, size: int) -> "Words":
        """From a list of words in JSON; TallyError where it is something else, or more than fit."""
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TallyError(f"{path}: cannot be read as JSON ({error}); copy the model's folder again") from error
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TallyError(f"{path}: a list of words expected; copy the model's folder again")
        return cls(words, size)

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
