"""A row of the table of tasks whose inputs are texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

Texts = dict[str, tuple[list[str], list[str]]]  # split -> texts, labels


@dataclass(frozen=True)
class TextTask:
    """One classification task of texts.

    `sentences`: label, as the source has it -> sentence that the head is made of. `source(resources)` returns the splits
    that its makers published, of "train", "val" and "test", or all texts as "all"; what is missing is drawn at random.
    """

    name: str
    title: str
    sentences: Mapping[str, str]
    source: "partial[Texts]"  # of a reader of tally.data.corpora and its arguments but the last
    license: str  # of the texts
    origin: str  # where they come from
    templates: tuple[str, ...] = ("{}",)
    epochs: int | None = None  # of a published fine-tuning

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.sentences.values())
