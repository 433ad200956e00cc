"""The tokenizer of OpenAI's CLIP: open_clip's SimpleTokenizer, whose vocabulary comes with that package."""

from collections.abc import Callable, Sequence
from functools import cache

from torch import Tensor


@cache
def _tokenizer() -> Callable[..., Tensor]:
    from open_clip import SimpleTokenizer  # 5 s, and only heads need it

    return SimpleTokenizer()


def tokenize(texts: Sequence[str], context: int) -> Tensor:
    """Texts as byte pairs between a start and an end token, the rest 0: int64 (B, context); what is too long is cut."""
    return _tokenizer()(list(texts), context)
