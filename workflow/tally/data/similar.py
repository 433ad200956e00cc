"""Which texts say nearly the same, so that test data hold nothing that was trained on."""

from collections.abc import Sequence

import numpy as np

ALIKE = 0.8  # cosine of two texts' weighted words and pairs of words
BLOCK = 1000  # texts compared at a time


def originals(texts: Sequence[str]) -> np.ndarray:
    """Which texts have a word and are not nearly the same as one before them that is kept: bool (N,).

    Nearly the same: the tf-idf vectors of their words and pairs of words, in lower case, have a cosine of ALIKE or more.
    A word that a tenth of the texts hold, and ten at least, tells no two of them apart and is left out; if nothing else is
    in a text, only the same text is nearly the same.
    """
    kept = np.array([any(c.isalnum() for c in text) for text in texts], dtype=bool)
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        kept[i] &= first.setdefault(text.lower(), i) == i
    rows = np.flatnonzero(kept)
    if len(rows) < 2:
        return kept
    try:
        vectors = vectorized([texts[i] for i in rows])
    except ValueError:  # no word counts
        return kept
    for start in range(0, len(rows), BLOCK):
        close = (vectors[start : start + BLOCK] @ vectors.T).tocoo()
        pairs = np.stack([close.row + start, close.col])[:, close.data >= ALIKE]
        for i, j in sorted(zip(*pairs[:, pairs[1] < pairs[0]].tolist())):
            if kept[rows[j]]:
                kept[rows[i]] = False
    return kept


def vectorized(texts: Sequence[str]):
    """tf-idf of the words and pairs of words of each text, length 1 or 0: a sparse matrix with N rows. ValueError: no word counts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(
        token_pattern=r"\w+", ngram_range=(1, 2), max_df=max(10, len(texts) // 10), dtype=np.float32
    )
    return reader.fit_transform(texts)
