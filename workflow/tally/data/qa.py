"""From files or the hub to the ids that a T5 is asked; the tasks are rows of `tally.data.questions`."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import numpy as np
from tally.data.published import Missing
from tally.data.questions import CHOICE, CHOICES, Questions
from tally.errors import TallyError
from tally.files import atomic_file
from tally.models.tokens import Tokenizer

Example = Mapping[str, Any]


# --- from files to examples -------------------------------------------------------------------------------------------


def load(row: Questions, data: Path, *, hub: bool = True) -> dict[str, list[Example]]:
    """Examples of the hub's two splits, as {"train": ..., "test": ...}, from files or else from the hub.

    Files: `data`/questions/<task>/<the hub's name of the split>.parquet (or several, <split>-*.parquet) or .jsonl. Without
    `hub` a split that is in no file raises Missing.
    """
    found = {}
    for part, split in (("train", row.train), ("test", row.test)):
        examples = stored(row, split, data)
        if not (examples or hub):
            raise Missing(f"{row.name}: no file of {split}; {advice(row, data)}")
        found[part] = examples or fetch(row, split, data)
    return found


def download(row: Questions, data: Path) -> None:
    """Fetch the splits that are in no file, or in one that is not whole, to <split>.parquet, where `load` looks for them."""
    for split in (row.train, row.test):
        whole = place(row, data) / f"{split}.parquet"
        try:
            if stored(row, split, data):
                continue
        except TallyError:
            if files(row, split, data) != [whole]:  # what is fetched would stand beside it
                raise
        examples = fetch(row, split, data)
        import pyarrow.parquet

        with atomic_file(whole) as path:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(examples), path)


def place(row: Questions, data: Path) -> Path:
    return data / "questions" / row.name


def advice(row: Questions, data: Path) -> str:
    """What to do where a task's examples are missing: one line."""
    if row.by_hand:
        return f"put into {place(row, data)}/: {row.by_hand}"
    return f"`tally data download --tasks {row.name}` fetches it, or put into {place(row, data)}/: {row.train} and {row.test}, each as .parquet or .jsonl"


def files(row: Questions, split: str, data: Path) -> list[Path]:
    """The files of a split; none if there are none. Raises TallyError for two forms of it, which would count twice."""
    forms = [f"{split}.parquet", f"{split}-*.parquet", f"{split}.jsonl", f"{split}-*.jsonl"]
    found = [paths for form in forms if (paths := sorted(place(row, data).glob(form)))]
    if len(found) > 1:
        raise TallyError(f"{row.name}: {found[0][0]} and {found[1][0].name} both hold {split}; keep one of them")
    return found[0] if found else []


def stored(row: Questions, split: str, data: Path) -> list[Example]:
    """The examples of a split's files; none without files."""
    examples = []
    for path in files(row, split, data):
        part = read(path)
        check_columns(row, part, path.name)
        examples += part
    return examples


def read(path: Path) -> list[Example]:
    """The rows of a parquet file or of one JSON object a line."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return pyarrow.parquet.read_table(path).to_pylist()
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line holds no JSON object")
        return rows
    except ImportError:
        raise TallyError(f"{path}: the package pyarrow is not installed; pip install 'tally-merge[hub]'") from None
    except (OSError, ValueError) as error:
        raise TallyError(
            f"{path}: cannot be read ({str(error).splitlines()[0]}); delete it and fetch it again"
        ) from None


def fetch(row: Questions, split: str, data: Path) -> list[Example]:
    """A split from the hub, by the library `datasets`, which keeps it in its own cache."""
    if row.by_hand:
        raise TallyError(f"{row.name}: not found; {advice(row, data)}")
    file = f"{place(row, data) / split}.parquet or .jsonl"
    try:
        from datasets import load_dataset
    except ImportError:
        raise TallyError(
            f"{row.name}: no {file}; put the file there, or `pip install 'tally-merge[hub]'` to fetch it"
        ) from None
    try:
        examples = load_dataset(row.repository, row.config, revision=row.revision, split=split).to_list()
    except Exception as error:  # whatever a network, a proxy or the hub can do
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        again = "try again, or " if isinstance(error, ConnectionError) else ""
        raise TallyError(
            f"{row.name}: {row.repository} cannot be fetched from the hub ({why}); {again}put the split into {file}"
        ) from None
    check_columns(row, examples, split)
    return examples


def fields(row: Questions) -> set[str]:
    """The columns that a row reads."""
    texts = (*row.templates, *row.choices)
    roots = {name.split("[")[0] for text in texts for _, name, _, _ in Formatter().parse(text) if name}
    return roots - {"options"} | ({row.label} if row.label else set())


def check_columns(row: Questions, examples: Sequence[Example], where: str) -> None:
    """Raise TallyError for a column that is not there, and for no examples."""
    if not examples:
        raise TallyError(f"{row.name}: {where} is empty; fetch it again")
    there = set().union(*examples[:100])
    missing = sorted(fields(row) - there)
    if missing:
        raise TallyError(
            f"{row.name}: no column {missing[0]!r} in {where}, which has {', '.join(sorted(there))}; is it another data set, or a newer form of it?"
        )


# --- from examples to questions ---------------------------------------------------------------------------------------


class Wording(Formatter):
    """str.format, for which an empty place of a table is none at all."""

    def get_field(self, name: str, args, kwargs):
        value, first = super().get_field(name, args, kwargs)
        if value is None:
            raise KeyError(name)
        return value, first


class Posed(NamedTuple):
    """An example in words."""

    question: str
    choices: list[str]
    label: int


def split(row: Questions, found: Mapping[str, list[Example]]) -> dict[str, list[Example]]:
    """Training, validation and test examples: validation is the end of training; what test or validation have, the others lack."""
    train, held = found["train"], row.held
    if len(train) <= held:
        raise TallyError(f"{row.name}: {len(train)} training examples, of which the last {held} are for validation")
    parts = {"test": found["test"], "val": train[-held:], "train": train[:-held]}
    columns, seen, out = sorted(fields(row)), set(), {}
    for name, examples in parts.items():
        keys = [json.dumps([example.get(column) for column in columns], default=str) for example in examples]
        out[name] = [example for key, example in zip(keys, examples) if key not in seen]
        seen.update(keys)
    return out


def pose(row: Questions, examples: Iterable[Example], *, every_template: bool) -> Iterator[Posed]:
    """Examples in words: each in every template (training), or the templates in turn (evaluation)."""
    turn, words = cycle(row.templates), Wording().format
    for number, example in enumerate(examples):
        try:
            choices = [words(choice, **example) for choice in row.choices]
            options = "\n".join(f"- {choice}" for choice in choices)
            templates = row.templates if every_template else (next(turn),)
            questions = [words(template, **example, options=options) for template in templates]
            key = str(example[row.label]) if row.label else ""
        except (KeyError, IndexError, TypeError) as error:
            raise TallyError(
                f"{row.name}: example {number} lacks a choice or a column ({error}); fetch it again"
            ) from None
        if row.label and key not in row.keys:
            raise TallyError(
                f"{row.name}: example {number} has the label {key!r}, which is none of {', '.join(row.keys)}; is it a split without answers?"
            )
        for question in questions:
            yield Posed(question, choices, row.keys.index(key) if row.label else 0)


# --- from questions to ids --------------------------------------------------------------------------------------------


def prepare(
    row: Questions, tokenizer: Tokenizer, context: int, *, cut: bool = True, data: Path
) -> dict[str, np.ndarray]:
    """The inputs of a T5, see `tally.models.t5`, whose questions have `context` ids.

    Returns {"train.inputs": int32 (N, context + C A), "train.labels": int64 (N,), and the same for "val" and "test"}. How
    many questions and choices were too long and cut is told on stderr, or they are refused. Raises TallyError for missing
    and bad data.
    """
    arrays = {}
    if len(row.choices) > CHOICES:
        raise TallyError(f"{row.name}: {len(row.choices)} choices, of which an input has room for {CHOICES}")
    for name, examples in split(row, load(row, data)).items():
        posed = list(pose(row, examples, every_template=name == "train"))
        what = f"{row.name}, {name}"
        questions = tokenizer.tokens([one.question for one in posed], context, what=what, cut=cut)
        texts = [choice for one in posed for choice in one.choices]
        choices = tokenizer.tokens(texts, CHOICE, what=f"{what}, choices", cut=cut, advice="set text.long to cut")
        room = np.zeros((len(posed), CHOICES, CHOICE), np.int32)
        room[:, : len(row.choices)] = choices.ids.reshape(len(posed), len(row.choices), CHOICE)
        arrays[f"{name}.inputs"] = np.concatenate([questions.ids, room.reshape(len(posed), -1)], axis=1)
        arrays[f"{name}.labels"] = np.array([one.label for one in posed], np.int64)
        if questions.cut + choices.cut:
            long = (
                f"{questions.cut} of {len(posed)} questions cut to {context} tokens, {choices.cut} choices to {CHOICE}"
            )
            print(f"{what}: {long}", file=sys.stderr)
    return arrays
