"""What the schema of the config cannot say: that the tasks exist, and that every k makes sense."""

from collections.abc import Mapping
from typing import Any

from tally.data.tasks import task
from tally.errors import TallyError
from tally.models.architecture import architecture
from tally.packages import PIP


def check(config: Mapping[str, Any]) -> None:
    """Raise TallyError, one line, for an unknown task or an impossible k, and keep a leak apart."""
    for name, members in config["suites"].items():
        for member in members:
            try:
                task(member)
            except TallyError as error:
                raise TallyError(f"config, suite {name}: {error}") from None
        ks = config["merging"]["ks"]
        too_large = [k for k in ks if k > len(members) + 1] if ks != "all" else []
        if too_large:
            raise TallyError(
                f"config, merging.ks: k = {too_large[0]} is out of range for suite {name} with {len(members)} tasks; use 0 to {len(members) + 1}"
            )
    named = {member for members in config["suites"].values() for member in members}
    if {"DTD", "DTD-leaky"} <= named:
        raise TallyError("config, suites: DTD and DTD-leaky are never in one run, nor in one table; choose one of them")
    if config["finetune"]["adapter"] != "none" and config["merging"]["share_of"] == "all":
        raise TallyError(
            "config, merging.share_of: an adapter has fewer weights than the model has frozen ones, so a share of all would keep every one; set it to domain"
        )
    _check_sources(config)
    for name in config["tasks"]:
        if name not in named:
            raise TallyError(
                f"config, tasks: {name} has a recipe but is in no suite; add it to one or remove the recipe"
            )


def _check_sources(config: Mapping[str, Any]) -> None:
    """A base from elsewhere has an architecture that is known, and published models are of known tasks."""
    if config["base"]["source"] and not config["base"]["source"].startswith(PIP):
        try:
            architecture(config["base"]["architecture"])
        except TallyError as error:
            raise TallyError(f"config, base.architecture: {error}") from None
    for name in config["finetuned"]["names"]:
        try:
            task(name)
        except TallyError as error:
            raise TallyError(f"config, finetuned.names: {error}") from None
    rows = {name: task(name) for members in config["suites"].values() for name in members}
    if config["finetune"]["epochs"] == "task":
        for name, row in rows.items():
            if row.epochs is None and not {"steps", "epochs"} & config["tasks"].get(name, {}).keys():
                raise TallyError(f"config, finetune.epochs: {name} has no epochs in its row; give it some under tasks")
