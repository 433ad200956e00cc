"""The paper's twenty vision tasks: every row against the numbers of the paper."""

import pytest
from tally.config import check
from tally.data.layouts import MD5
from tally.data.splits import random_rows
from tally.data.task import Published, fingerprint, modules
from tally.data.tasks import SUITES, TASKS
from tally.errors import TallyError

CLASSES = {
    "Cars": 196, "DTD": 47, "EuroSAT": 10, "GTSRB": 43, "MNIST": 10, "RESISC45": 45, "SVHN": 10, "SUN397": 397,
    "STL10": 10, "OxfordIIITPet": 37, "Flowers102": 102, "CIFAR100": 100, "PCAM": 2, "FER2013": 7,
    "CIFAR10": 10, "Food101": 101, "FashionMNIST": 10, "RenderedSST2": 2, "EMNIST": 10, "KMNIST": 10,
}  # fmt: skip
OWN_VALIDATION = {"EuroSAT"}


def test_the_twenty_are_the_papers_in_its_order():
    assert tuple(CLASSES) == SUITES["vision-20"]


@pytest.mark.parametrize("name", [*CLASSES, "DTD-leaky"])
def test_rows_have_the_papers_sizes(name):
    row = TASKS[name]
    assert isinstance(row.source, Published)
    assert len(row.classes) == len(set(row.source.folders)) == CLASSES[name.removesuffix("-leaky")]
    assert 1 <= row.epochs <= 147
    assert all(template.count("{}") == 1 for template in row.templates)
    train, val, test = row.source.sizes
    assert test > 0
    if name not in OWN_VALIDATION:  # a tenth of the training data, at most 5000
        assert [len(rows) for rows in random_rows(train + val, row.validation)] == [train, val]


def test_names_of_classes_are_those_of_the_prompts():
    assert TASKS["SUN397"].classes[:2] == ("abbey", "airplane cabin")
    assert TASKS["SUN397"].source.folders[:2] == ("a_abbey", "a_airplane_cabin")
    assert TASKS["EuroSAT"].classes[2] == "brushland or shrubland"
    assert TASKS["CIFAR100"].classes[1] == "aquarium_fish"
    assert TASKS["FER2013"].classes[3] == "['happy', 'smiling']"  # as the authors' prompts have it
    assert TASKS["FER2013"].source.folders[3] == "happy_smiling"


@pytest.mark.parametrize("name", ["DTD", "RESISC45", "SUN397"])
def test_folders_are_in_the_order_of_the_labels(name):
    folders = TASKS[name].source.folders
    assert sorted(folders) == list(folders)  # or rows sorted by label would not be in ImageFolder's order


@pytest.mark.parametrize("name", MD5)
def test_the_md5_that_are_compared_are_those_that_are_said(name):
    for file, md5 in MD5[name].items():
        assert f"{file} (md5 {md5})" in TASKS[name].source.by_hand


def test_the_leaky_textures_are_apart():
    clean, leaky = TASKS["DTD"], TASKS["DTD-leaky"]
    assert clean.classes == leaky.classes
    assert not clean.source.leaky
    assert leaky.source.leaky
    assert sum(clean.source.sizes) == sum(leaky.source.sizes[:2]) == 5640
    assert fingerprint(clean) != fingerprint(leaky)
    with pytest.raises(TallyError, match="DTD and DTD-leaky are never in one run"):
        check({"suites": {"one": ["DTD"], "two": ["DTD-leaky"]}, "merging": {"ks": "all"}, "tasks": {}})


def test_a_row_names_the_code_that_loads_it():
    assert "data/layouts" in modules(TASKS["Cars"])
    assert modules(TASKS["mnist"]) == ["data/sources"]
