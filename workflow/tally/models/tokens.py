"""Texts to token ids, by the tokenizer.json that lies beside a transformers model."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tally.errors import TallyError
from tally.files import read_json
from tally.models.kinds import T5, kind_of


class Tokens(NamedTuple):
    """Token ids of texts, and how many texts were cut."""

    ids: np.ndarray  # int32 (N, context), filled up with 0
    cut: int


class Tokenizer:
    """A tokenizer of Hugging Face's `tokenizers`, with a context of its own."""

    def __init__(self, folder: Path):
        """Read `folder`/tokenizer.json; TallyError where it cannot be read or is another model's than config.json."""
        path = folder / "tokenizer.json"
        try:
            from tokenizers import Tokenizer as Fast
        except ImportError:
            raise TallyError(
                f"{path}: the package tokenizers is not installed; pip install 'tally-merge[text]'"
            ) from None
        try:
            self.fast = Fast.from_file(str(path))
        except Exception as error:  # the library raises nothing more particular
            raise TallyError(
                f"{path}: cannot be read as a tokenizer ({error}); copy the model's folder again"
            ) from None
        self.fast.no_truncation()
        self.fast.no_padding()
        config = read_json(folder / "config.json")
        known, vocabulary, padding = self.fast.get_vocab_size(), config["vocab_size"], self.fast.id_to_token(0)
        # a T5 has embeddings to spare
        if known > vocabulary or (known < vocabulary and kind_of(folder) is not T5):
            raise TallyError(
                f"{path}: {known} tokens, but the model of config.json has {vocabulary}; take the tokenizer of that model"
            )
        if padding not in ("[PAD]", "<pad>"):
            raise TallyError(
                f"{path}: id 0 is {padding!r}, but the model takes 0 for padding; take the tokenizer of that model"
            )
        self.positions = config.get("max_position_embeddings", math.inf)

    def tokens(
        self, texts: Sequence[str], context: int, *, what: str, cut: bool = True,
        advice: str = "raise text.context or set text.long to cut",
    ) -> Tokens:  # fmt: skip
        """Ids of the texts, each at most `context` tokens long with the special ones; the last of them stays.

        Raises TallyError for a longer text unless it may be `cut`, and for a context that the model has not; `what` says in
        the message where the texts are from, `advice` what to do about a longer one.
        """
        if context > self.positions:
            raise TallyError(
                f"{what}: a context of {context} tokens, but the model has positions for {self.positions}; lower text.context"
            )
        rows = [row.ids for row in self.fast.encode_batch(list(texts))]
        long = [i for i, row in enumerate(rows) if len(row) > context]
        if long and not cut:
            raise TallyError(
                f"{what}: {len(long)} of {len(rows)} texts are longer than the context of {context} tokens, the first has "
                f"{len(rows[long[0]])}: '{texts[long[0]][:40]}...'; {advice}"
            )
        ids = np.zeros((len(rows), context), dtype=np.int32)
        for place, row in zip(ids, rows):
            row = row if len(row) <= context else [*row[: context - 1], row[-1]]
            place[: len(row)] = row
        return Tokens(ids, len(long))
