"""Files that somebody else published: of the Hugging Face hub, or of a folder of this machine; and what they were."""

import os
import re
from pathlib import Path
from typing import Any

from tally.errors import TallyError
from tally.files import sha256

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name


def obtain(source: str, file: str, revision: str = "main") -> tuple[Path, dict[str, Any]]:
    """The file `file` of `source`, a folder or a repository of the hub, and its provenance.

    What came from the hub stays in its own cache (HF_HOME), HF_ENDPOINT names another hub; a connection that breaks is
    taken up where it broke, and a file only gets its name when it is whole. `file` may be empty where `source` is a file.
    Provenance: source, file, sha256, and of the hub the revision as a commit.
    """
    if local(source):
        path = Path(source, file) if file else Path(source)
        if not path.is_file():
            raise TallyError(f"{path}: no such file; copy it there, or name another source")
        return path, {"source": source, "file": file, "sha256": sha256(path)}
    path = _download(source, file, revision)
    # the cache keeps it as .../snapshots/<commit>/<file>
    commit = path.parts[-1 - len(Path(file).parts)]
    return path, {"source": source, "file": file, "revision": commit, "sha256": sha256(path)}


def local(source: str) -> bool:
    """Whether a source is a path of this machine; owner/name is one only where it exists."""
    return os.path.exists(source) or not REPOSITORY.fullmatch(source) or source.startswith(".")


def _download(repository: str, file: str, revision: str) -> Path:
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ImportError:
        raise TallyError("huggingface_hub is not installed; pip install 'tally-merge[hub]'") from None
    where = f"{file!r} of {repository} at {revision!r}"
    by_hand = (
        f"download {constants.ENDPOINT}/{repository}/resolve/{revision}/{file} where there is one, copy it to"
        f" FOLDER/{file}, and give FOLDER as the source"
    )
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except errors.RepositoryNotFoundError:  # also what the hub answers where a login is missing
        raise TallyError(
            f"the hub has no public repository {repository}; check its name, or log in with `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise TallyError(f"{repository} has no revision {revision!r}; take a commit or branch from its page") from None
    except errors.LocalEntryNotFoundError:
        raise TallyError(f"no connection to the hub for {where}; {by_hand}") from None
    except errors.EntryNotFoundError:
        raise TallyError(f"{repository} has no file {file!r} at {revision!r}; look at its files on the hub") from None
    except Exception as error:  # the network fails in many ways, and none may end in a traceback
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TallyError(f"cannot fetch {where} ({first}); try again, or {by_hand}") from None
