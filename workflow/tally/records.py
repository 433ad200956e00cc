"""Read the JSON files of one suite, check that they belong together, and hold them as one record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tally.errors import TallyError
from tally.files import read_json
from tally.statistics import unpack_hits
from tally.storage import PAPER

CONSENSUS = ("consensus-task-arithmetic", "consensus-ties", "random-consensus")


@dataclass(frozen=True)
class Suite:
    """What the runs of one suite left behind: parsed JSON, and the test hits of every candidate.

    per_task: {"zero-shot" | "fine-tuned": {task: per-task file}}; candidates: {candidate: file}, sorted by name;
    hits: {candidate: {task: bool (n,)}} with zero-shot and fine-tuned among the candidates;
    votes, masks: {merge method: file}, empty when there are none. storage: {TALL method: {"domain_weights": P,
    "formats": {storage format: {"bits", "bytes", "test"}}}}; but for the paper's, each format is in `hits` as
    `format_name` says.
    """

    model: str
    name: str
    tasks: tuple[str, ...]
    per_task: dict[str, dict[str, dict]]
    candidates: dict[str, dict]
    hits: dict[str, dict[str, np.ndarray]]
    votes: dict[str, dict]
    masks: dict[str, dict]
    storage: dict[str, dict] = field(default_factory=dict)

    def accuracy(self, candidate: str) -> dict[str, float]:
        """Test accuracy per task, 0..1."""
        return {task: float(self.hits[candidate][task].mean()) for task in self.tasks}

    @property
    def provenance(self) -> str:
        """Where the fine-tuned models were published, and which were trained here; "" if all were."""
        origin = {task: self.per_task["fine-tuned"][task].get("provenance") for task in self.tasks}
        sources = dict.fromkeys(facts["published"] for facts in origin.values() if facts)
        texts = []
        for source in sources:
            revisions = {f.get("revision", "") for f in origin.values() if f and f["published"] == source}
            texts.append(f"{source} at {min(revisions)[:7]}" if len(revisions) == 1 and min(revisions) else source)
        own = [task for task, facts in origin.items() if not facts]
        return "; ".join(texts + [f"own training of {', '.join(own)}"] * bool(own)) if texts else ""


def load_suite(
    folder: Path | str,
    tasks: Sequence[str] | None = None,
    candidates: Iterable[str] | None = None,
    formats: Sequence[str] = (),
) -> Suite:
    """Read results/<model>/<suite>: accuracy/, votes/, masks/, and the heads/ and finetuned/ of its tasks one level up.

    formats: storage formats to take from storage/, of every TALL method among the candidates; by default none.

    tasks: names in the order in which to show them; by default those of the first candidate file, in its order.
    candidates: file stems under accuracy/ to take; by default all that are there. Name them where older runs may have
    left candidates that are no longer wanted. Raises TallyError when a file is missing or contradicts another.
    """
    folder = Path(folder)
    if candidates is None:
        candidates = [path.stem for path in folder.glob("accuracy/*.json")]
    files = {name: read_json(folder / "accuracy" / f"{name}.json") for name in sorted(candidates)}
    if not files:
        raise TallyError(f"{folder / 'accuracy'}: no candidate has been evaluated; run `tally evaluate` first")
    if tasks is None:
        tasks = list(next(iter(files.values())).get("test", {}))
    per_task = {
        name: {task: read_json(folder.parent / stage / f"{task}.json") for task in tasks}
        for name, stage in (("zero-shot", "heads"), ("fine-tuned", "finetuned"))
    }
    tests = {name: {task: record.get("test", {}) for task, record in group.items()} for name, group in per_task.items()}
    for name, record in files.items():
        tests[name] = record.get("test", {})
        if set(tests[name]) != set(tasks):
            odd = ", ".join(sorted(set(tests[name]) ^ set(tasks)))
            raise TallyError(
                f"{folder}/accuracy/{name}.json: its tasks are not those of the suite ({odd}); evaluate it again"
            )
    masked = [name.removeprefix("tall-") for name in files if name.startswith("tall-")]
    storage = {f"tall-{method}": read_json(folder / "storage" / f"{method}.json") for method in masked if formats}
    for method, record in storage.items():
        missing = [
            name for name in (PAPER, *formats) if set(record["formats"].get(name, {}).get("test", {})) != {*tasks}
        ]
        if missing:
            raise TallyError(
                f"{folder}/storage: {missing[0]} of {method} is missing or has other tasks; measure it again"
            )
        kept = {name: record["formats"][name] for name in dict.fromkeys((PAPER, *formats))}
        storage[method] = record | {"formats": kept}
        tests |= {format_name(method, name): kept[name]["test"] for name in kept if name != PAPER}
    hits = {
        name: {task: unpack_hits(test[task], f"{folder}: {name}, {task}") for task in tasks}
        for name, test in tests.items()
    }
    for name in hits:
        for task in tasks:
            n, expected = len(hits[name][task]), len(hits["fine-tuned"][task])
            if n != expected:
                raise TallyError(
                    f"{folder}: {name} saw {n} test examples of {task}, fine-tuned {expected}; evaluate it again"
                )
    for task in tasks:
        if not hits["fine-tuned"][task].any():
            raise TallyError(
                f"{folder.parent}/finetuned/{task}.json: accuracy 0; train it, or leave {task} out of the suite"
            )
    votes, masks = (
        {method: read_json(path) for method in masked if (path := folder / kind / f"{method}.json").exists()}
        for kind in ("votes", "masks")
    )
    return Suite(folder.parent.name, folder.name, tuple(tasks), per_task, files, hits, votes, masks, storage)


def format_name(method: str, storage_format: str) -> str:
    """What a TALL method in a storage format is called among the candidates."""
    return f"{method}-{storage_format}"


def name_of(method: str, k: int | None) -> str:
    """The candidate's name: consensus methods carry their k."""
    return method if k is None else f"{method}-k{k}"


def validation_score(record: dict, where: str) -> float | None:
    """Normalized validation accuracy (0..1) of the alpha that was chosen; None where nothing was searched."""
    if not record.get("search"):
        return None
    for step in record["search"]:
        if step["alpha"] == record["alpha"] and step["normalized"] is not None:
            return step["normalized"]
    raise TallyError(f"{where}: alpha {record['alpha']} is not in its own search; evaluate it again")


def chosen_k(suite: Suite) -> dict[str, int]:
    """Per consensus method the k whose chosen alpha did best on validation data; of equals, the smallest k."""
    best: dict[str, tuple[float, int]] = {}
    for name, record in suite.candidates.items():
        if record["method"] in CONSENSUS:
            score = (validation_score(record, f"{suite.name}/{name}") or 0.0, -record["k"])
            best[record["method"]] = max(score, best.get(record["method"], (-1.0, 0)))
    return {method: -negative for method, (_, negative) in best.items()}
