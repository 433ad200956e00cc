"""Which form of a published data set is there, whether it is whole, and what to do if not."""

from pathlib import Path

from tally.data.pictures import Parts, class_folders
from tally.data.task import Published, Sizes, Task
from tally.errors import TallyError

FORMS = ("layout", "hub", "folders")  # in the order of preference


class Missing(TallyError):
    """The data set is not there, in none of its forms."""


def places(row: Task, data: Path) -> dict[str, Path]:
    """Where each form of a published task lies, or would."""
    source = row.source
    assert isinstance(source, Published)
    found = {"folders": data / "folders" / row.name}
    if source.layout:
        found["layout"] = data / source.place
    if source.hub:
        found["hub"] = data / "hub" / row.name
    return {form: found[form] for form in FORMS if form in found}


def open_published(row: Task, data: Path, form: str = "auto") -> tuple[str, Parts]:
    """The first form that is whole, and its parts. Raises Missing, or TallyError where what is there is not whole."""
    source, where = row.source, places(row, data)
    assert isinstance(source, Published)
    if form != "auto" and form not in where:
        raise TallyError(f"{row.name} has no source {form!r}; choose one of auto, {', '.join(where)}")
    problems = []
    for name, path in where.items():
        if form in ("auto", name) and path.exists():
            try:
                return name, _open(row, data, name)
            except TallyError as error:
                problems.append(error)
    raise problems[0] if problems else Missing(f"{row.name}: not found; {advice(row, data)}")


def _open(row: Task, data: Path, form: str) -> Parts:
    source, place = row.source, places(row, data)[form]
    assert isinstance(source, Published)
    if form == "layout":
        from tally.data.layouts import read

        parts = read(source, data)
    elif form == "hub":
        from tally.data.hub import read as read_hub

        assert source.hub is not None
        parts = read_hub(source.hub, place, row.classes)
    else:
        parts = class_folders(place, source.folders)
    if expected := wrong(parts, source.sizes):
        raise TallyError(f"{row.name}: {place} holds {expected}; fetch what is missing, or remove what is too much")
    return parts


def advice(row: Task, data: Path) -> str:
    """What to do where a data set is missing: one line."""
    source, where = row.source, places(row, data)
    assert isinstance(source, Published)
    ways = ["`make data` fetches it"] if source.hub or (source.layout and not source.by_hand) else []
    if source.by_hand:
        ways.append(f"put into {where['layout']}/: {'; '.join(source.by_hand)}")
    ways.append(
        f"put its pictures into {where['folders']}/{{train,test}}/CLASS/, the classes being {source.folders[0]} ..."
    )
    return ", or ".join(ways)


def wrong(parts: Parts, sizes: Sizes | None) -> str:
    """What is wrong with the numbers of pictures, in words; empty if nothing is."""
    if sizes is None:
        return ""
    expected = sizes._asdict() if "val" in parts else {"train": sizes.train + sizes.val, "test": sizes.test}
    return ", ".join(
        f"{len(parts[split])} pictures to {split} instead of {n}"
        for split, n in expected.items()
        if len(parts[split]) != n
    )


def fetch(row: Task, data: Path, form: str = "auto") -> None:
    """Fetch a data set from its makers, or where that cannot be done from the hub. Raises TallyError with what to do by hand."""
    source, where, problems = row.source, places(row, data), []
    assert isinstance(source, Published)
    if form in ("auto", "layout") and source.layout and not source.by_hand:
        from tally.data.layouts import download

        try:
            download(source.layout, data)
            _open(row, data, "layout")  # what was unpacked by half is taken for whole by torchvision
            return
        except TallyError as error:
            problems.append(f"{error}; what is in {where['layout']} may have to be deleted first")
    if form in ("auto", "hub") and source.hub:
        from tally.data.hub import download as download_hub

        try:
            download_hub(source.hub, where["hub"])
            _open(row, data, "hub")
            return
        except TallyError as error:
            problems.append(str(error))
    raise TallyError("; ".join([*problems, advice(row, data)]))
