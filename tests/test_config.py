"""Every shipped config fits the schema and the tables; what the schema cannot say is one line."""

import jsonschema
import pytest
import yaml
from conftest import ROOT
from tally.config import check
from tally.errors import TallyError

SCHEMA = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text())
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


def filled(config, schema=SCHEMA):
    """The config with the schema's defaults, as Snakemake fills them in."""
    for name, part in schema.get("properties", {}).items():
        if "default" in part or name in config:
            config = config | {name: config.get(name, part.get("default"))}
            if isinstance(config[name], dict):
                config = config | {name: filled(config[name], part)}
    return config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_whole(path):
    config = yaml.safe_load(path.read_text())
    jsonschema.validate(config, SCHEMA)
    check(filled(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": {"source": "random", "architecture": "ViT-B-31"}}, "base.architecture: unknown architecture 'ViT-B-31'"),
        ({"base": {"source": "owner/name"}}, "base.architecture: unknown architecture ''"),
        ({"finetuned": {"names": {"Carz": "cars"}}}, "finetuned.names: unknown task 'Carz'"),
        ({"finetune": {"adapter": "ia3"}, "merging": {"share_of": "all"}}, "merging.share_of: an adapter has fewer weights"),
        ({"finetune": {"epochs": "task"}}, "finetune.epochs: digits has no epochs in its row"),
    ],
)  # fmt: skip
def test_what_the_schema_cannot_say(changes, said):
    config = {"suites": {"one": ["digits"]}} | changes
    jsonschema.validate(config, SCHEMA)
    with pytest.raises(TallyError, match=said) as raised:
        check(filled(config))
    assert str(raised.value).startswith("config, ")
    assert "\n" not in str(raised.value)


def test_a_task_has_one_length():
    config = {"suites": {"one": ["digits"]}, "tasks": {"digits": {"epochs": 2, "steps": 3}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)
    jsonschema.validate(config | {"tasks": {"digits": {"epochs": 2}}}, SCHEMA)
