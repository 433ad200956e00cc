"""`tally data check` and `tally data download`: the published data sets on this machine."""

import argparse
from pathlib import Path

from tally.cli import options
from tally.errors import TallyError


def register(verbs) -> None:
    about = "The published data sets: which are there, and fetch those that are not"
    group = verbs.add_parser("data", help=about.lower(), description=f"{about}; docs/data.md has the table of them.")
    own = group.add_subparsers(title="verbs", metavar="VERB", required=True)
    p = options.verb(own, check, "check")
    _which(p)
    p.add_argument("--pictures", action="store_true", help="decode every picture and name those that cannot be read")
    p.add_argument("--processes", type=int, default=1, help="that decode")
    p = options.verb(own, download, "download")
    _which(p)


def _which(parser: options.Parser) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="of a run: its tasks, its folder `data`, its sources"
    )
    parser.add_argument("--tasks", nargs="+", help="or tasks by name")
    options.setting(parser, "data", "data", "folder of the data sets")


def _rows(args: argparse.Namespace) -> tuple[Path, list]:
    """The folder, and the tasks whose data lie there with the form to take of each."""
    from tally.data.questions import Questions
    from tally.data.task import Published
    from tally.data.tasks import SUITES, task

    folder, forms = Path(args.data), {}
    names = args.tasks or SUITES["vision-20"]
    if args.config is not None:
        import yaml

        try:
            config = yaml.safe_load(args.config.read_text())
            folder = Path(config.get("data", args.data))
            names = args.tasks or sorted({name for suite in config["suites"].values() for name in suite})
            forms = {name: own["source"] for name, own in config.get("tasks", {}).items() if "source" in own}
        except (OSError, yaml.YAMLError, KeyError, AttributeError, TypeError) as error:
            first = " ".join(str(error).split())
            raise TallyError(
                f"{args.config}: no config of a run ({first}); `suites` with lists of tasks is needed"
            ) from None
    rows = [
        (row, forms.get(row.name, "auto"))
        for row in map(task, names)
        if isinstance(row, Questions) or isinstance(row.source, Published)
    ]
    if not rows:
        print("Nothing to fetch: these tasks are embedded.")
    return folder, rows


def _open(row, folder: Path, form: str) -> tuple[str, str, dict]:
    """What is there of a task: its form, the numbers of its examples, its parts. Raises Missing, or TallyError."""
    from tally.data.published import open_published
    from tally.data.qa import load
    from tally.data.questions import Questions

    questions = isinstance(row, Questions)
    found, parts = ("files", load(row, folder, hub=False)) if questions else open_published(row, folder, form)
    what = "questions" if questions else "pictures"
    return found, ", ".join(f"{len(part)} {what} to {split}" for split, part in parts.items()), parts


def check(args: argparse.Namespace) -> None:
    """Say of each data set whether it is ready, missing or wrong, with the numbers of its pictures or questions."""
    from tally.data.published import Missing

    folder, rows = _rows(args)
    unready = 0
    for row, form in rows:
        try:
            found, counts, parts = _open(row, folder, form)
            bad = _unreadable(row, parts, args.processes) if args.pictures else []
            state, note = ("wrong" if bad else "ready"), f"{found}, {counts}"
        except Missing as error:
            state, note, bad = "missing", str(error).partition("; ")[2], []
        except TallyError as error:
            state, note, bad = "wrong", _told(row, error), []
        unready += state != "ready"
        print(f"{row.name:14} {state:8} {note}", flush=True)
        for problem in bad:
            print(f"{'':14} {problem}")
    if unready:
        raise TallyError(f"{unready} of {len(rows)} data sets are not ready; `tally data download` fetches what it can")


def _unreadable(row, parts, processes: int) -> list[str]:
    """Decode all pictures: what cannot be read, and what belongs to no class."""
    from tally.data.decoding import decode, plan
    from tally.data.questions import Questions

    if isinstance(row, Questions):
        return []
    problems, beyond = [], 0
    for done in decode(parts, plan(parts, row.validation), 1, None, processes, f"decode {row.name}"):
        problems += done.errors
        beyond += sum(not 0 <= label < len(row.classes) for _, _, label, _ in done.pictures)
    return problems + ([f"{beyond} labels beyond its {len(row.classes)} classes"] if beyond else [])


def download(args: argparse.Namespace) -> None:
    """Fetch the data sets that are not there: from their makers, else from the hub; of the others say what goes where."""
    from tally.data.published import Missing

    folder, rows = _rows(args)
    problems = []
    for row, form in rows:
        try:
            _open(row, folder, form)
        except Missing:
            print(f"{row.name}: fetching ...", flush=True)
        except TallyError as error:
            print(f"{row.name}: {_told(row, error)}; trying to fetch it again", flush=True)
        else:
            print(f"{row.name}: ready")
            continue
        try:
            _fetch(row, folder, form)
            _, counts, _ = _open(row, folder, form)
            print(f"{row.name}: ready, {counts}", flush=True)
        except TallyError as error:
            problems.append(row.name)
            print(f"{row.name}: {_told(row, error)}", flush=True)
    if problems:
        raise TallyError(f"{len(problems)} of {len(rows)} data sets are still missing: {', '.join(problems)}")


def _fetch(row, folder: Path, form: str) -> None:
    from tally.data import published, qa
    from tally.data.questions import Questions

    if isinstance(row, Questions):
        qa.download(row, folder)
    else:
        published.fetch(row, folder, form)


def _told(row, error: TallyError) -> str:
    """The message without the name of the task, which stands before it."""
    return str(error).removeprefix(f"{row.name}: ")
