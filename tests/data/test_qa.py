"""The text tasks from miniatures of their columns: splits, wording, ids, and what is wrong with a file."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from tally.data import qa, questions
from tally.errors import TallyError
from tally.models.tokens import Tokens
from tiny_t5 import MINIATURES, choices


def put(data: Path, row: questions.Questions, test: int = 6, extra: int = 5) -> None:
    """Files of a task: `extra` examples more than are held out for validation."""
    folder = data / "questions" / row.name
    folder.mkdir(parents=True)
    make, count = MINIATURES[row.name], row.held + extra
    for split, numbers in ((row.train, range(count)), (row.test, range(count, count + test))):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(make(i)) + "\n" for i in numbers))


class Characters:
    """A tokenizer with an id a character."""

    def tokens(self, texts, context, *, what, cut=True, advice="") -> Tokens:
        rows = [[*text.encode(), 1] for text in texts]
        ids = np.zeros((len(rows), context), np.int32)
        for place, row in zip(ids, rows):
            row = row if len(row) <= context else [*row[: context - 1], 1]
            place[: len(row)] = row
        return Tokens(ids, sum(len(row) > context for row in rows))


def read(ids) -> str:
    return bytes(int(i) for i in ids if i > 1).decode()


def test_the_suites_are_the_papers():
    assert [len(names) for names in questions.SUITES.values()] == [7, 8, 11]
    assert set(questions.SUITES["qa-11"]) == set(questions.TASKS) == set(MINIATURES)


@pytest.mark.parametrize("name", MINIATURES)
def test_every_task_from_files_to_ids(tmp_path, capsys, name):
    row, make = questions.TASKS[name], MINIATURES[name]
    put(tmp_path, row)
    arrays = qa.prepare(row, Characters(), 400, data=tmp_path)
    assert capsys.readouterr().err == ""
    total = row.held + 5
    assert {split: len(arrays[f"{split}.labels"]) for split in ("train", "val", "test")} == {
        "train": 5 * len(row.templates), "val": row.held, "test": 6,
    }  # fmt: skip
    width = 400 + questions.CHOICES * questions.CHOICE
    for split, first in (("train", 0), ("val", 5), ("test", total)):
        inputs = arrays[f"{split}.inputs"]
        assert (inputs.shape[1], inputs.dtype) == (width, np.int32)
        for at in range(min(len(inputs), 6)):
            number = first + (at // len(row.templates) if split == "train" else at)
            example = make(number)
            question, blocks = read(inputs[at, :400]), inputs[at, 400:].reshape(questions.CHOICES, questions.CHOICE)
            asked = [choice.format(**example) for choice in row.choices]
            assert [read(block) for block in blocks] == asked + [""] * (questions.CHOICES - len(asked))
            template = row.templates[at % len(row.templates)]
            for field in qa.fields(row):
                assert "{" + field + "}" not in template or str(example[field]) in question, (field, question)
            if row.label:
                assert row.keys[arrays[f"{split}.labels"][at]] == str(example[row.label])
            else:
                assert asked[0] not in question
    labels = arrays["val.labels"]
    assert set(labels.tolist()) == set(range(len(row.keys) or 1))
    assert len(row.classes) == max(len(row.keys), 2)


def test_templates_are_crossed_in_training_and_take_turns_in_evaluation():
    row = questions.TASKS["paws"]
    examples = [MINIATURES["paws"](i) for i in range(3)]
    assert len(list(qa.pose(row, examples, every_template=True))) == 6
    turns = [one.question for one in qa.pose(row, examples, every_template=False)]
    assert [turn.startswith("First:") for turn in turns] == [True, False, True]
    assert turns[2] == "First: a b 2\nSecond: b a 2\nDo both sentences mean the same? Yes or no?"


def test_no_example_is_in_two_splits():
    row, make = questions.TASKS["wsc"], MINIATURES["wsc"]
    found = {"train": [make(i) for i in (1, 2, 3, *range(200, 300))], "test": [make(2), make(250), make(999)]}
    parts = qa.split(row, found)
    assert parts["train"] == [make(1), make(3)]
    assert (len(parts["val"]), len(parts["test"])) == (99, 3)


def test_long_texts_are_cut_and_counted(tmp_path, capsys):
    row = questions.TASKS["paws"]
    put(tmp_path, row, test=2, extra=1)
    arrays = qa.prepare(row, Characters(), 30, data=tmp_path)
    assert "paws, val: 1000 of 1000 questions cut to 30 tokens, 0 choices to 64\n" in capsys.readouterr().err
    assert (arrays["test.inputs"][:, 29] == 1).all()


def test_parquet_in_parts(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    row, make = questions.TASKS["quail"], MINIATURES["quail"]
    (tmp_path / "questions" / "quail").mkdir(parents=True)
    for split, numbers in (("train-00000-of-2", range(3)), ("train-00001-of-2", range(3, 5)), ("validation", (9,))):
        pandas.DataFrame([make(i) for i in numbers]).to_parquet(tmp_path / "questions" / "quail" / f"{split}.parquet")
    found = qa.load(row, tmp_path)
    assert found["train"] == [make(i) for i in range(5)]
    assert found["test"] == [make(9)]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("quartz", lambda e: e | {"answerKey": "C"}, r"quartz: example 0 has the label 'C', which is none of A, B; is it"),
        ("wsc", lambda e: e | {"label": -1}, r"wsc: example 0 has the label '-1', which is none of 0, 1; is it a split without"),
        ("paws", lambda e: {"first" if k == "sentence1" else k: v for k, v in e.items()},
         r"paws: no column 'sentence1' in train\.jsonl, which has first, id, label, sentence2; is it another"),
        ("qasc", lambda e: e | {"choices": choices(0, 7)}, r"qasc: example 0 lacks a choice or a column"),
        ("story_cloze", lambda e: e | {"sentence_quiz2": None}, r"example 0 lacks a choice or a column \('sentence_quiz2'\)"),
        ("paws", lambda e: e if e["id"] != 1 else {k: v for k, v in e.items() if k != "label"},
         r"paws: example 1 lacks a choice or a column \('label'\); fetch it again"),
        ("paws", lambda e: [e], r"train\.jsonl: cannot be read \(a line holds no JSON object\)"),
    ],
)  # fmt: skip
def test_bad_examples_are_one_line(tmp_path, name, change, message):
    row = questions.TASKS[name]
    put(tmp_path, row)
    path = tmp_path / "questions" / name / f"{row.train}.jsonl"
    path.write_text("".join(json.dumps(change(json.loads(line))) + "\n" for line in path.read_text().splitlines()))
    with pytest.raises(TallyError, match=message) as told:
        qa.prepare(row, Characters(), 400, data=tmp_path)
    assert "\n" not in str(told.value)


def test_bad_files_are_one_line(tmp_path):
    row = questions.TASKS["wsc"]
    put(tmp_path, row, extra=0)
    with pytest.raises(TallyError, match="wsc: 100 training examples, of which the last 100 are for validation"):
        qa.prepare(row, Characters(), 400, data=tmp_path)
    for content, message in (("{", "cannot be read"), ("", r"wsc: train\.jsonl is empty")):
        (tmp_path / "questions" / "wsc" / "train.jsonl").write_text(content)
        with pytest.raises(TallyError, match=message):
            qa.load(row, tmp_path)


def test_two_forms_of_a_split_are_one_too_many(tmp_path, monkeypatch):
    row = questions.TASKS["wsc"]
    put(tmp_path, row)
    folder = tmp_path / "questions" / "wsc"
    (folder / "train-00000-of-1.jsonl").write_text((folder / "train.jsonl").read_text())
    for read in (qa.load, qa.download):
        with pytest.raises(
            TallyError, match=r"wsc: .*/train\.jsonl and train-00000-of-1\.jsonl both hold train; keep one"
        ):
            read(row, tmp_path)
    (folder / "train.jsonl").unlink()
    (folder / "train-00000-of-1.jsonl").write_text("{")
    monkeypatch.setattr(qa, "fetch", lambda *_: pytest.fail("it would stand beside the broken one"))
    with pytest.raises(TallyError, match="cannot be read"):
        qa.download(row, tmp_path)


def test_a_line_ends_at_a_newline_alone(tmp_path):
    example = MINIATURES["quail"](0) | {"context": "one\u2028two\x85three"}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(example, ensure_ascii=False)}\r\n\n", encoding="utf-8")
    assert qa.read(tmp_path / "a.jsonl") == [example]


@pytest.mark.parametrize("name", [name for name in MINIATURES if name != "story_cloze"])
def test_what_is_asked_of_the_hub(tmp_path, monkeypatch, name):
    datasets = pytest.importorskip("datasets")
    row, asked = questions.TASKS[name], []

    def answer(*place, **which):
        asked.append((*place, which))
        return datasets.Dataset.from_list([MINIATURES[name](i) for i in range(3)])

    monkeypatch.setattr(datasets, "load_dataset", answer)
    assert qa.load(row, tmp_path)["test"] == [MINIATURES[name](i) for i in range(3)]
    config, revision = row.config, None
    if name in ("cosmos_qa", "social_iqa"):  # repositories that are programs, which datasets no longer runs
        config, revision = "default", "refs/convert/parquet"
    assert asked == [
        (row.repository, config, {"revision": revision, "split": split}) for split in ("train", "validation")
    ]


def test_a_hub_out_of_reach_is_one_line(tmp_path, monkeypatch):
    by_hand = r"story_cloze: not found; put into .*questions/story_cloze/: validation\.jsonl and test\.jsonl, made of"
    with pytest.raises(TallyError, match=by_hand):
        qa.load(questions.TASKS["story_cloze"], tmp_path)
    datasets = pytest.importorskip("datasets")

    for error, advice in (
        (ConnectionError("Couldn't reach the hub\nand more"), r"\(Couldn't reach the hub\); try again, or put the split into"),
        (RuntimeError("Dataset scripts are no longer supported"), r"\(Dataset scripts .*\); put the split into .*train\.parquet"),
    ):  # fmt: skip
        monkeypatch.setattr(datasets, "load_dataset", Mock(side_effect=error))
        message = f"paws: google-research-datasets/paws cannot be fetched from the hub {advice}"
        with pytest.raises(TallyError, match=message):
            qa.load(questions.TASKS["paws"], tmp_path)
