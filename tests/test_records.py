import json
from dataclasses import replace

import pytest
from fake import FORMATS, fake_suite
from tally.errors import TallyError
from tally.records import chosen_k, format_name, load_suite, name_of, validation_score


@pytest.fixture
def folder(tmp_path):
    return fake_suite(tmp_path, tasks=3, examples=40)


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_suite_is_read_whole(folder):
    suite = load_suite(folder)
    assert (suite.model, suite.name, suite.tasks) == ("fake", "fake-3", ("cars", "dtd", "eurosat"))
    assert set(suite.hits) == set(suite.candidates) | {"zero-shot", "fine-tuned"}
    record = suite.candidates["ties"]["test"]["dtd"]
    assert suite.accuracy("ties")["dtd"] == record["correct"] / record["total"]
    assert set(suite.votes) == set(suite.masks) == {"task-arithmetic", "ties"}


def test_order_of_tasks_and_choice_of_candidates(folder):
    suite = load_suite(folder, tasks=["eurosat", "cars", "dtd"], candidates=["ties"])
    assert suite.tasks == ("eurosat", "cars", "dtd")
    assert set(suite.hits) == {"ties", "zero-shot", "fine-tuned"}


def test_chosen_k_is_the_best_on_validation_and_the_smallest_of_equals(folder):
    def better(record):
        record["search"][0]["normalized"] = 0.99

    for k in (2, 3):
        edit(folder / "accuracy" / f"consensus-ties-k{k}.json", better)
    suite = load_suite(folder)
    assert chosen_k(suite)["consensus-ties"] == 2
    assert set(chosen_k(suite)) == {"consensus-task-arithmetic", "consensus-ties", "random-consensus"}
    assert name_of("consensus-ties", 2) == "consensus-ties-k2"
    assert name_of("ties", None) == "ties"


def test_storage_formats_are_candidates_when_asked_for(folder):
    assert load_suite(folder).storage == {}
    suite = load_suite(folder, formats=["fp16-int8-zstd"])
    assert set(suite.storage) == {"tall-task-arithmetic", "tall-ties"}
    assert list(suite.storage["tall-ties"]["formats"]) == ["fp32-fp32-packed", "fp16-int8-zstd"]
    assert format_name("tall-ties", "fp16-int8-zstd") == "tall-ties-fp16-int8-zstd"
    assert set(suite.hits) - set(load_suite(folder).hits) == {f"{m}-fp16-int8-zstd" for m in suite.storage}
    assert set(load_suite(folder, candidates=["ties", "tall-ties"], formats=list(FORMATS)).storage) == {"tall-ties"}
    with pytest.raises(
        TallyError, match=r"storage: bf16-int8-zstd of tall-task-arithmetic is missing or has other tasks"
    ):
        load_suite(folder, formats=["bf16-int8-zstd"])
    edit(folder / "storage" / "ties.json", lambda r: r["formats"]["fp16-int8-zstd"]["test"].pop("dtd"))
    with pytest.raises(TallyError, match="fp16-int8-zstd of tall-ties is missing or has other tasks; measure it again"):
        load_suite(folder, formats=["fp16-int8-zstd"])


def test_alpha_must_be_in_its_search():
    step = {"alpha": 0.1, "normalized": None, "bound": 0.2, "counts": {}}
    assert validation_score({"alpha": 1.0, "search": []}, "here") is None
    assert validation_score({"alpha": 0.1, "search": [step | {"normalized": 0.7}]}, "here") == 0.7
    with pytest.raises(TallyError, match=r"^here: alpha 0\.1"):
        validation_score({"alpha": 0.1, "search": [step]}, "here")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("accuracy/ties.json", lambda r: r["test"].pop("dtd"), r"ties\.json: .*\(dtd\)"),
        ("accuracy/ties.json", lambda r: r["test"]["dtd"].update(correct=1), "ties, dtd: .*correct is 1"),
        (
            "accuracy/ties.json",
            lambda r: r["test"].update(dtd=r["test"]["eurosat"]),
            "ties saw 54 .* dtd, fine-tuned 47",
        ),
        ("../finetuned/dtd.json", lambda r: r["test"].update(correct=0, hits="AAAAAAAA"), r"dtd\.json: accuracy 0"),
    ],
)
def test_contradictions_are_named(folder, file, change, message):
    edit(folder / file, change)
    with pytest.raises(TallyError, match=message):
        load_suite(folder, tasks=["cars", "dtd", "eurosat"])


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(TallyError, match="accuracy: no candidate"):
        load_suite(tmp_path / "nowhere")
    (folder.parent / "heads" / "dtd.json").unlink()
    with pytest.raises(TallyError, match=r"dtd\.json: not found"):
        load_suite(folder)


def test_provenance_says_what_was_trained_elsewhere(tmp_path):
    folder = fake_suite(tmp_path, tasks=3, examples=20)
    assert load_suite(folder).provenance == ""
    for i, task in enumerate(("cars", "dtd")):
        path = folder.parent / "finetuned" / f"{task}.json"
        facts = {"published": "owner/models-{name}", "source": f"owner/models-{task}", "revision": "0123456789"[i:]}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": facts}))
    assert load_suite(folder).provenance == "owner/models-{name}; own training of eurosat"
    assert replace(load_suite(folder), tasks=("cars",)).provenance == "owner/models-{name} at 0123456"
