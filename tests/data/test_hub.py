"""Data sets of the hub: the real client against a hub of this machine, and the files read without one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from miniature_hub import COMMIT, serve
from miniatures import parquet, rows, seen, small, tar
from tally.data.cache import cache
from tally.data.hub import _order, files, read
from tally.data.published import fetch, open_published
from tally.data.task import Hub, Published
from tally.data.tasks import TASKS
from tally.errors import TallyError

CARS = small("Cars")


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    parquet(folder / "data" / "train-00000-of-00001.parquet", "train", 3)
    parquet(folder / "data" / "test-00000-of-00001.parquet", "test", 3)
    (folder / "data" / "contrast-00000-of-00001.parquet").write_bytes(b"another split, which nobody asked for")
    (folder / "README.md").write_text("---\n---\n")
    return folder


@pytest.fixture
def hub(repository, monkeypatch):
    with serve(repository, CARS.source.hub.repository) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_fetched_read_and_prepared(hub, tmp_path):
    fetch(CARS, tmp_path)
    folder = tmp_path / "hub" / "Cars"
    record = json.loads((folder / "source.json").read_text())
    assert record["revision"] == COMMIT
    assert sorted(record["sha256"]) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    assert not (folder / "data" / "contrast-00000-of-00001.parquet").exists()
    form, parts = open_published(CARS, tmp_path)
    assert form == "hub"
    pairs = [parts["test"][i] for i in range(9)]
    assert [label for _, label in pairs] == [label for label, _ in rows("test", 3)]
    assert [seen(np.asarray(image)) for image, _ in pairs] == [label for _, label in pairs]
    assert cache(CARS, 8, data=tmp_path, output=tmp_path / "out", processes=2)["train test"] == 0
    asked = len(hub.ranges)
    fetch(CARS, tmp_path)
    assert len(hub.ranges) == asked  # nothing is fetched twice


def test_what_is_unpacked_by_half_is_fetched_from_the_hub(tmp_path, monkeypatch):
    row = replace(CARS, source=replace(CARS.source, layout="DTD", place="dtd", by_hand=()))
    (tmp_path / "dtd" / "dtd").mkdir(parents=True)  # torchvision takes this for the whole
    calls = []
    monkeypatch.setattr("tally.data.hub.download", lambda hub, folder: calls.append(folder))
    with pytest.raises(
        TallyError,
        match=r"cannot be fetched from its makers .*; what is in .*/dtd may have to be deleted first; .*/hub/Cars: no parquet",
    ):
        fetch(row, tmp_path)
    assert calls == [tmp_path / "hub" / "Cars"]


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what it keeps of a broken connection
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.breaks = 2
    fetch(CARS, tmp_path)
    assert "bytes=4000-" in hub.ranges
    assert open_published(CARS, tmp_path)[0] == "hub"


def test_half_a_download_is_not_taken_for_a_whole_one(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.breaks = 10**6
    with pytest.raises(TallyError, match=r"the hub cannot be reached \(.*copy the files train\* and test\*") as error:
        fetch(CARS, tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(TallyError, match="no parquet or tar file of its train data"):
        open_published(CARS, tmp_path)
    hub.breaks = 0
    fetch(CARS, tmp_path)
    assert open_published(CARS, tmp_path)[0] == "hub"


def test_a_file_that_is_not_the_hubs_is_refused(hub, tmp_path):
    hub.corrupt = True
    with pytest.raises(TallyError, match=r"parquet: not the file of the hub, its sha256 differs"):
        fetch(CARS, tmp_path)


def test_a_hub_that_cannot_be_reached_says_what_to_copy_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TallyError) as error:
        fetch(CARS, tmp_path)
    text = str(error.value)
    assert (
        f"copy the files train* and test* of the data set repository tanganke/stanford_cars into {tmp_path}/hub/Cars"
        in text
    )
    assert f"put into {tmp_path}/stanford_cars/: car_devkit.tgz" in text
    assert "\n" not in text


def test_tar_files_are_read_as_parquet_is(tmp_path):
    row = small("FER2013")
    for split in ("train", "test"):
        tar(tmp_path / split / "0.tar", split, 3)
    parts = read(row.source.hub, tmp_path, row.classes)
    assert {split: len(part) for split, part in parts.items()} == {"train": 30, "test": 9}
    image, label = parts["test"][5]
    assert (seen(np.asarray(image)), label) == (2, 2)


def test_faces_have_the_labels_of_their_names(tmp_path):
    names = ["angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"]  # its classnames.txt
    for split in ("train", "test"):
        tar(tmp_path / split / "0.tar", split, 7)
    row = TASKS["FER2013"]
    part = read(row.source.hub, tmp_path, row.classes)["test"]
    for i, (label, _) in enumerate(rows("test", 7)):
        assert row.classes[part[i][1]].startswith(f"['{names[label]}'")


@pytest.mark.parametrize("harm", ["none", "half", "text", "column"])
def test_files_that_are_no_data_set_are_named(harm, repository, tmp_path):
    hub, content = CARS.source.hub, (repository / "data" / "train-00000-of-00001.parquet").read_bytes()
    target = tmp_path / "data" / "train-00000-of-00001.parquet"
    target.parent.mkdir()
    if harm != "none":
        target.write_bytes({"half": content[: len(content) // 2], "text": b"<html>"}.get(harm, content))
    words = {"none": "no parquet or tar file of its train data; copy", "column": "no column 'kind', among image, label"}
    with pytest.raises(TallyError, match=words.get(harm, "the train data cannot be read")) as error:
        read(replace(hub, label="kind") if harm == "column" else hub, tmp_path, CARS.classes)
    assert "\n" not in str(error.value)


def test_files_are_found_by_their_split(tmp_path):
    names = [
        "cropped/train-0.parquet",
        "cropped/test-0.parquet",
        "full/train-0.parquet",
        "cropped/train/1.tar",
        "cropped/latest.parquet",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = files(Hub("a/b", config="cropped"), tmp_path)
    assert {part: [path.removeprefix(f"{tmp_path}/") for path in paths] for part, paths in found.items()} == {
        "train": ["cropped/train/1.tar", "cropped/train-0.parquet"], "test": ["cropped/test-0.parquet"]
    }  # fmt: skip


def test_labels_are_matched_by_name():
    assert _order(["Sea_Lake", "River"], ["river", "sea lake"], "x") == [1, 0]
    assert _order(None, ["zero", "one"], "x") == [0, 1]
    with pytest.raises(TallyError, match="x: 1 classes, but the task has 2"):
        _order(["a"], ["a", "b"], "x")


@pytest.mark.parametrize("names", [["zero", "1"], ["zero", "zero"]])
def test_other_names_are_never_taken_by_position(names):
    with pytest.raises(TallyError, match="x: none of its classes is called 'one'; is it another data set") as error:
        _order(names, ["zero", "one"], "x")
    assert "\n" not in str(error.value)


def test_a_row_can_say_what_the_labels_of_a_repository_mean(tmp_path):
    for split in ("train", "test"):
        parquet(tmp_path / f"{split}-0.parquet", split, 3, names=["お", "き", "す"])  # as tanganke/kmnist
    row = small("KMNIST")
    with pytest.raises(TallyError, match=r"tanganke/kmnist, train: none of its classes is called 'o'"):
        read(replace(row.source.hub, names=()), tmp_path, row.classes)
    part = read(row.source.hub, tmp_path, row.classes)["test"]
    assert [part[i][1] for i in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("row", [row for row in TASKS.values() if isinstance(row.source, Published) and row.source.hub])
def test_names_of_a_row_are_its_classes(row):
    assert sorted(_order(row.source.hub.names or row.classes, row.classes, row.name)) == list(range(len(row.classes)))
