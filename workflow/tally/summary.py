"""Where a run's time went, from the last line of the jobs' logs."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# as tally.progress.spent writes it
SPENT = re.compile(r"^seconds: (all [\d.]+(?:, \w+ [\d.]+)*); (\d+) MB at most$", re.MULTILINE)


@dataclass
class Stage:
    """The jobs of one rule."""

    jobs: int = 0
    seconds: float = 0.0  # wall time of the jobs, summed
    work: float = 0.0  # of it training or evaluation
    memory: float = 0.0  # largest resident set, MB
    begin: float = float("inf")


def stages(store: Path, since: float = 0.0) -> dict[str, Stage]:
    """A row per rule that ran after `since` (seconds of the epoch), from the logs in <store>/logs."""
    rows: dict[str, Stage] = defaultdict(Stage)
    for path in sorted((store / "logs").rglob("*.log")):
        end = path.stat().st_mtime
        if end >= since and (last := SPENT.findall(path.read_text(errors="replace"))):
            parts, memory = last[-1]
            seconds = {kind: float(value) for kind, value in map(str.split, parts.split(", "))}
            row = rows[path.relative_to(store / "logs").parts[0].removesuffix(".log")]
            row.jobs += 1
            row.seconds += seconds["all"]
            row.work += seconds.get("training", 0.0) + seconds.get("evaluation", 0.0)
            row.memory = max(row.memory, float(memory))
            row.begin = min(row.begin, end - seconds["all"])
    return dict(rows)


def text(rows: Mapping[str, Stage], planned: Mapping[str, int], wall: float, cores: int | None = None) -> str:
    """A table of the stages, and what the run's `wall` seconds were spent on.

    `planned`: how many jobs of a stage are done; those that did not run were there already. `cores` of this
    machine, or None on a cluster, where a job's cores are not the run's.
    """
    out = [f"{'stage':18}{'ran':>5}{'cached':>8}{'seconds':>9}{'of it work':>12}{'peak MB':>9}"]
    names = sorted(rows, key=lambda name: rows[name].begin) + sorted(set(planned) - set(rows))
    for name in names:
        row = rows.get(name, Stage())
        cached = max(planned.get(name, row.jobs) - row.jobs, 0)
        out.append(f"{name:18}{row.jobs:5}{cached:8}{row.seconds:9.1f}{row.work:12.1f}{row.memory:9.0f}")
    work, busy = (sum(getattr(row, part) for row in rows.values()) for part in ("work", "seconds"))
    spent = f"training and evaluation {work:.0f} core-seconds"
    if cores is None:
        out.append(f"{wall:.0f} s on a cluster, jobs {busy:.0f} s; {spent}")
    else:
        rest = f"everything else {1 - work / (wall * cores):.0%} of the cores' time"
        out.append(f"{wall:.0f} s on {cores} cores; {spent}, {rest}")
    return "\n".join(out)
