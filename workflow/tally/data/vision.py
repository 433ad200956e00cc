"""The paper's twenty vision tasks, in its order: the suites vision-8, vision-14 and vision-20; and DTD with its leak.

vision.json holds what is long: classes in the order of the labels, prompt templates, epochs, sizes of the splits. They are
the authors' (github.com/nik-dim/tall_masks), whose class names are the data sets' own, with lists for FER2013 as they stand
in its prompts. The pictures of a row: see `Published`; docs/data.md says what to fetch.
"""

import json
from dataclasses import replace
from pathlib import Path

from tally.data.task import Hub, Published, Sizes, Task, folder_names

FACTS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
LICENSE = "its makers' own: tally ships none of it"
# in the order of wds_fer2013's classnames.txt; its tar files name no classes
FACES = ("angry", "disgusted", "fearful", "happy smiling", "neutral bored", "sad depressed", "surprised shocked spooked")  # fmt: skip


def classes_of(name: str) -> tuple[str, ...]:
    return tuple(FACTS[name]["classes"])


def row(
    name: str, title: str, place: str, hub: Hub | None, origin: str, *by_hand: str, layout: str = "", facts: str = ""
) -> Task:
    own = FACTS[facts or name]
    classes = classes_of(facts or name)
    source = Published(
        folders=tuple(own["folders"]) if "folders" in own else folder_names(classes),
        sizes=Sizes(**own["sizes"]), layout=layout or name, place=place, hub=hub, by_hand=by_hand,
    )  # fmt: skip
    return Task(name, title, classes, tuple(own["templates"]), source, LICENSE, origin, epochs=own["epochs"])


ROWS = (
    # vision-8
    row("Cars", "196 models of cars", "stanford_cars", Hub("tanganke/stanford_cars"), "Stanford Cars, Krause et al. 2013",
        "car_devkit.tgz (md5 c3b158d763b6e2245038c8ad08e45376), unpacked to devkit/",
        "cars_train.tgz (md5 065e5b463ae28d29e77c1b4b166cfe61), unpacked to cars_train/",
        "cars_test.tgz (md5 4ce7ebf6a94d07f1952d94dd34c4d501), unpacked to cars_test/",
        "cars_test_annos_withlabels.mat (md5 b0a2b23655a3edd16d84508592a98d10)"),
    row("DTD", "47 textures", "dtd", Hub("tanganke/dtd"), "Describable Textures Dataset r1.0.1, Cimpoi et al. 2014: split 1, train and val"),
    # of the hub's repositories those with a split have another than the paper's 21600 + 2700 + 2700
    row("EuroSAT", "10 uses of land from a satellite", "eurosat", None, "EuroSAT RGB, Helber et al. 2019: a tenth of each class to validate, a tenth to test"),
    row("GTSRB", "43 traffic signs", "gtsrb", Hub("tanganke/gtsrb", revision="ea889fff70dda7b09e94a4b207dded438deca549"), "German Traffic Sign Recognition Benchmark, Stallkamp et al. 2011"),
    row("MNIST", "handwritten digits", "MNIST", Hub("ylecun/mnist"), "MNIST, LeCun et al. 1998"),
    row("RESISC45", "45 scenes from the air", "resisc45", Hub("tanganke/resisc45"), "NWPU-RESISC45, Cheng et al. 2017, split of Neumann et al. 2019",
        "NWPU-RESISC45.rar (md5 d824acb73957502b00efd559fc6cfbbb), unpacked to NWPU-RESISC45/airplane/ and so on",
        "resisc45-train.txt (md5 b5a4c05a37de15e4ca886696a85c403e)",
        "resisc45-test.txt (md5 3dda9e4988b47eb1de9f07993653eb08)"),
    row("SVHN", "digits of house numbers", "train_32x32.mat", Hub("ufldl-stanford/svhn", config="cropped_digits"), "Street View House Numbers, Netzer et al. 2011"),
    row("SUN397", "397 scenes", "SUN397", Hub("tanganke/sun397", revision="9c4afd6174afa3974f209a0ef099dbbe244dfd27"), "SUN397, Xiao et al. 2010: partition 1",
        "SUN397.tar.gz (md5 8ca2778205c41d23104230ba66911c7a), unpacked to a/abbey/ and so on",
        "Partitions.zip, unpacked to Partitions/Training_01.txt and Partitions/Testing_01.txt"),
    # vision-14
    row("STL10", "10 things", "stl10_binary", Hub("tanganke/stl10"), "STL-10, Coates et al. 2011"),
    row("OxfordIIITPet", "37 breeds of pets", "oxford-iiit-pet", Hub("timm/oxford-iiit-pet"), "Oxford-IIIT Pet, Parkhi et al. 2012: trainval and test"),
    # the hub's repository spells some otherwise, in the same order
    row("Flowers102", "102 flowers", "flowers-102", Hub("dpdl-benchmark/oxford_flowers102", names=classes_of("Flowers102")), "Oxford 102 Flower, Nilsback and Zisserman 2008: train and test"),
    row("CIFAR100", "100 things", "cifar-100-python", Hub("tanganke/cifar100"), "CIFAR-100, Krizhevsky 2009"),
    row("PCAM", "metastases in lymph nodes", "pcam", Hub("1aurent/PatchCamelyon"), "PatchCamelyon, Veeling et al. 2018: train and test"),
    row("FER2013", "7 facial expressions", "fer2013", Hub("clip-benchmark/wds_fer2013", label="cls", names=FACES), "FER2013, Goodfellow et al. 2013: PublicTest and PrivateTest are the test data",
        "fer2013.csv (md5 f8428a1edbd21e88f42c73edd2a14f95) of Kaggle's challenges-in-representation-learning-facial-expression-recognition-challenge"),
    # vision-20
    row("CIFAR10", "10 things", "cifar-10-batches-py", Hub("tanganke/cifar10"), "CIFAR-10, Krizhevsky 2009"),
    row("Food101", "101 dishes", "food-101", Hub("ethz/food101", test="validation"), "Food-101, Bossard et al. 2014"),
    row("FashionMNIST", "clothes", "FashionMNIST", Hub("zalando-datasets/fashion_mnist"), "Fashion-MNIST, Xiao et al. 2017"),
    row("RenderedSST2", "reviews as pictures of text", "rendered-sst2", Hub("nateraw/rendered-sst2"), "Rendered SST2, OpenAI 2021: train and test"),
    # digits as the authors: torchvision's, which lie on their side; the hub's repositories have other splits of EMNIST
    row("EMNIST", "handwritten digits of NIST", "EMNIST", None, "EMNIST digits, Cohen et al. 2017"),
    # the hub's repository writes the characters themselves
    row("KMNIST", "10 characters of old Japanese", "KMNIST", Hub("tanganke/kmnist", names=classes_of("KMNIST")), "Kuzushiji-MNIST, Clanuwat et al. 2018"),
)  # fmt: skip

# The authors' first training folder held all 5640 textures, with the 1880 of the test: their checkpoints know them.
_DTD = row(
    "DTD-leaky",
    "47 textures, the test's among the training's",
    "dtd",
    None,
    "DTD as the authors trained on it first",
    facts="DTD",
)
assert isinstance(_DTD.source, Published)
ROWS += (replace(_DTD, source=replace(_DTD.source, sizes=Sizes(5076, 564, 1880), leaky=True)),)
