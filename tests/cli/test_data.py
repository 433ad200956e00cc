"""`tally data check`, `tally data download` and `tally prepare` of published data sets, as a user calls them."""

import json

import pytest
import yaml
from miniatures import class_folders, miniature, small
from tally.checkpoints import open_checkpoint
from tally.cli import main
from tally.data import qa, questions
from tally.data.tasks import TASKS
from tiny_t5 import MINIATURES


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Miniatures of two data sets, and a third that is not there."""
    for name in ("GTSRB", "OxfordIIITPet"):
        monkeypatch.setitem(TASKS, name, miniature(tmp_path / "data", name, monkeypatch.setattr))
    monkeypatch.setitem(TASKS, "Cars", small("Cars"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    return tmp_path / "data"


def run(*args, capsys) -> tuple[int, list[str], str]:
    code = main(["--quiet", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_check_lists_ready_missing_and_wrong(data, capsys):
    (data / "oxford-iiit-pet" / "annotations" / "test.txt").write_text("Abyssinian_200 1 1 1\n")
    code, lines, err = run("data", "check", "--tasks", "GTSRB", "OxfordIIITPet", "Cars", "--data", data, capsys=capsys)
    assert code == 2
    assert lines[0] == f"{'GTSRB':14} ready    layout, 30 pictures to train, 9 pictures to test"
    assert lines[1].startswith(f"{'OxfordIIITPet':14} wrong ")
    assert "1 pictures to test instead of 9" in lines[1]
    assert lines[2].startswith(
        f"{'Cars':14} missing  `make data` fetches it, or put into {data}/stanford_cars/: car_devkit.tgz"
    )
    assert len(lines) == 3
    assert err == "tally: 2 of 3 data sets are not ready; `tally data download` fetches what it can\n"


def test_check_names_what_cannot_be_read(data, capsys):
    victim = data / "oxford-iiit-pet" / "images" / "Abyssinian_200.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    options = ("--tasks", "GTSRB", "OxfordIIITPet", "--data", data)
    assert run("data", "check", *options, capsys=capsys)[0] == 0  # counts alone
    code, lines, _ = run("data", "check", "--pictures", "--processes", 2, *options, capsys=capsys)
    assert code == 2
    assert [line.split()[:2] for line in lines[:2]] == [["GTSRB", "ready"], ["OxfordIIITPet", "wrong"]]
    assert str(victim) in lines[2]
    assert len(lines) == 3


def test_a_config_gives_tasks_folder_and_sources(data, tmp_path, capsys):
    class_folders(data, TASKS["GTSRB"])
    config = {"data": str(data), "suites": {"one": ["GTSRB", "mnist"]}, "tasks": {"GTSRB": {"source": "folders"}}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
    code, lines, _ = run("data", "check", "--config", tmp_path / "a.yaml", capsys=capsys)
    assert code == 0
    assert lines == [f"{'GTSRB':14} ready    folders, 30 pictures to train, 9 pictures to test"]
    (tmp_path / "b.yaml").write_text("- no\n- config\n")
    code, _, err = run("data", "check", "--config", tmp_path / "b.yaml", capsys=capsys)
    assert code == 2
    assert "b.yaml: no config of a run" in err
    assert err.count("\n") == 1


def test_download_says_what_goes_where(data, capsys):
    code, lines, err = run("data", "download", "--tasks", "GTSRB", "Cars", "--data", data, capsys=capsys)
    assert code == 2
    assert lines[0] == "GTSRB: ready"
    assert "the hub cannot be reached" in lines[2]
    assert f"put into {data}/stanford_cars/: car_devkit.tgz (md5 c3b158d763b6e2245038c8ad08e45376)" in lines[2]
    assert err == "tally: 1 of 2 data sets are still missing: Cars\n"


@pytest.fixture
def hub(monkeypatch):
    """A hub that answers with miniatures of questions."""
    datasets = pytest.importorskip("datasets")

    def answer(repository, config, *, revision, split):
        (name,) = (row.name for row in questions.ROWS if row.repository == repository)
        return datasets.Dataset.from_list([MINIATURES[name](i) for i in range(3 if split == "train" else 2)])

    monkeypatch.setattr(datasets, "load_dataset", answer)


def test_questions_are_fetched_into_files(hub, tmp_path, capsys):
    config, names = tmp_path / "a.yaml", ["qasc", "wsc", "story_cloze"]
    config.write_text(yaml.safe_dump({"data": str(tmp_path / "data"), "suites": {"one": names}}))
    folder = tmp_path / "data" / "questions"
    by_hand = f"put into {folder}/story_cloze/: validation.jsonl and test.jsonl, made of the two files of spring 2016"
    code, lines, _ = run("data", "check", "--config", config, capsys=capsys)
    assert code == 2
    assert lines[0] == (
        f"{'qasc':14} missing  `tally data download --tasks qasc` fetches it, or put into {folder}/qasc/: train and validation, each as .parquet or .jsonl"
    )
    assert lines[1].startswith(f"{'story_cloze':14} missing  {by_hand}")
    code, lines, err = run("data", "download", "--config", config, capsys=capsys)
    assert code == 2
    assert lines[:2] == ["qasc: fetching ...", "qasc: ready, 3 questions to train, 2 questions to test"]
    assert lines[3].startswith(f"story_cloze: not found; {by_hand}")
    assert err == "tally: 1 of 3 data sets are still missing: story_cloze\n"
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
        f"{name}/{split}.parquet" for name in ("qasc", "wsc") for split in ("train", "validation")
    ]
    assert qa.load(questions.TASKS["qasc"], tmp_path / "data", hub=False) == {
        part: [MINIATURES["qasc"](i) for i in range(n)] for part, n in (("train", 3), ("test", 2))
    }


def test_questions_that_are_broken_are_fetched_again(hub, tmp_path, capsys):
    folder = tmp_path / "questions" / "qasc"
    folder.mkdir(parents=True)
    (folder / "train.parquet").write_text("no parquet")
    (folder / "validation.jsonl").write_text('{"question": 1}\n')
    options = ("--tasks", "qasc", "--data", tmp_path)
    code, lines, _ = run("data", "check", "--pictures", *options, capsys=capsys)
    assert code == 2
    assert lines[0].startswith(f"{'qasc':14} wrong    {folder}/train.parquet: cannot be read")
    code, lines, _ = run("data", "download", *options, capsys=capsys)
    assert code == 2  # a file that was put there stays, and is named
    assert lines[-1].startswith("qasc: no column 'answerKey' in validation.jsonl, which has question; is it")
    (folder / "validation.jsonl").unlink()
    assert run("data", "download", *options, capsys=capsys)[0] == 0
    code, lines, _ = run("data", "check", "--pictures", *options, capsys=capsys)
    assert (code, lines) == (0, [f"{'qasc':14} ready    files, 3 questions to train, 2 questions to test"])


def test_prepare_writes_cache_and_manifest(data, tmp_path, capsys):
    model = tmp_path / "open_clip_config.json"
    model.write_text(json.dumps({"model_cfg": {"vision_cfg": {"image_size": 12}}}))
    options = (
        "--model",
        model,
        "--resources",
        tmp_path,
        "--output",
        tmp_path / "o",
        "--manifest",
        tmp_path / "m.tsv",
        "--data",
        data,
    )
    assert run("prepare", "--task", "GTSRB", *options, capsys=capsys)[0] == 0
    assert open_checkpoint(tmp_path / "o")["train.inputs"].shape == (27, 3, 12, 12)
    assert len((tmp_path / "m.tsv").read_text().splitlines()) == 1 + 39
    code, _, err = run("prepare", "--task", "Cars", *options, capsys=capsys)
    assert code == 2
    assert err.startswith("tally: Cars: not found; ")
    assert err.count("\n") == 1
