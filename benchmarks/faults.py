"""What the workflow survives: kills, full disks, damaged files; what is lost, and what is done again.

    python benchmarks/faults.py --rounds 50 --seed 0

The test workflow (three tasks, seconds of training) runs once, undisturbed. A round starts from a copy of it without some
results and all that follows from them - a run that is half through - and has one fault:

    worker    SIGKILL to a job at a random moment
    group     SIGKILL to Snakemake and all its jobs at a random moment
    disk      a disk (tmpfs) with room for a random share of what is missing; without the right to mount one, a limit on the
              size of files. More room is made afterwards
    truncate  a file that the rest of the run reads, safetensors or JSON, loses a random part of its end
    flip      one random bit of such a file is flipped

Then `snakemake --rerun-incomplete` has to end with every table, model and count byte for byte as in the undisturbed run, or to
stop with a line that names the damaged file; once that is deleted the next run has to end so.
"""

import argparse
import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
MICRO = ROOT / "tests" / "workflow" / "micro.yaml"
FAULTS = ("worker", "group", "disk", "truncate", "flip")
STORE = Path("results/mini-clip")
TARGETS = (
    STORE / "tables" / "suites.csv",
    *(STORE / "micro" / "bundles" / f"{m}.safetensors" for m in ("task-arithmetic", "ties")),
)
SNAKEMAKE = (
    sys.executable, "-m", "snakemake", *map(str, TARGETS), "--configfile", str(MICRO), "--config", "precision=fp32",
)  # fmt: skip
SHARED = ("Snakefile", "config", "envs", "profiles", "resources", "workflow")
PATIENCE = 600  # seconds after which a run hangs


@dataclass
class Round:
    """One round: what was done to it, and what came of it."""

    fault: str
    planned: int  # jobs that were missing
    moment: str = ""  # when the fault came, or to which file
    outcome: str = ""  # identical; named: stopped with the file's name, identical once it was deleted; unread; FAILED
    runs: int = 1
    finished: int = 0  # jobs of all runs
    interrupted: int = 0  # jobs that a kill or an error cut off
    lost: int = 0  # files that are gone, or other than in the undisturbed run
    left_over: int = 0  # temporary files of dead writers
    seconds: float = 0.0

    @property
    def survived(self) -> bool:
        return self.outcome in ("identical", "named", "unread")

    @property
    def repeated(self) -> int:
        return max(self.finished - self.planned, 0)


class Run:
    """One call of Snakemake on a working copy."""

    def __init__(self, folder: Path, cores: int, largest: int | None = None):
        """largest: bytes that a file may have."""
        command = [*SNAKEMAKE, "--cores", str(cores), "--rerun-incomplete", "--max-jobs-per-timespan", "100/1s"]

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        self.log = folder.with_suffix(".log")  # not on the copy's disk, which may be full
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=limit if largest is not None else None,
                env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def finished(self) -> int:
        return len(re.findall(r"^Finished jobid: \d+ \(Rule: (?!all)", self.text, re.MULTILINE))

    def started(self) -> int:
        return len(set(re.findall(r"^Job (\d+): ", self.text, re.MULTILINE)))

    def over(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int | None:
        """The exit status; None if the run had to be ended."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Process ids of the jobs that run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                group = int((path / "stat").read_text().rpartition(")")[2].split()[2])
                if group == self.process.pid and b"-m\0tally\0" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found


def copy(finished: Path, folder: Path, link: bool = True) -> None:
    """A working copy with the results of a finished one. Tensors may be linked: they are replaced, never written into."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    for name in ("results", ".snakemake"):
        if (finished / name).exists():
            for path in (finished / name).rglob("*"):
                target = folder / path.relative_to(finished)
                if path.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                elif link and path.suffix == ".safetensors":
                    target.hardlink_to(path)
                elif path.name not in ("log", "locks"):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, target)


def artifacts(folder: Path) -> dict[str, Path]:
    """Everything a run makes but logs, times and figures, by its name."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted((folder / STORE).rglob("*"))
        if path.is_file()
        and path.suffix in (".safetensors", ".json", ".csv", ".md", ".tex")
        and not {"logs", "benchmarks", "figures"} & set(path.relative_to(folder).parts)
    }


def jobs(folder: Path) -> tuple[dict[str, set[str]], dict[str, frozenset[str]]]:
    """What each file of a finished copy is made from, and the outputs of the job that makes it."""
    command = [*SNAKEMAKE, "--detailed-summary"]
    answer = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout
    rows = list(csv.DictReader(answer[answer.index("output_file\t") :].splitlines(), delimiter="\t"))
    inputs, together = {}, defaultdict(set)
    for row in rows:
        inputs[row["output_file"]] = {path for path in row["input-file(s)"].split(",") if path.startswith("results/")}
        together[row["rule"], row["log-file(s)"]].add(row["output_file"])
    made_with = {name: frozenset(names) for names in together.values() for name in names}
    return inputs, made_with


def behind(inputs: dict[str, set[str]], made_with: dict[str, frozenset[str]], name: str) -> set[str]:
    """The outputs of the job that makes this file, and of all that follow from it."""
    gone: set[str] = set()
    todo = set(made_with[name])
    while todo:
        gone |= todo
        todo = {twin for out, needs in inputs.items() if needs & gone for twin in made_with[out]} - gone
    return gone


def differing(finished: Path, folder: Path) -> list[str]:
    """Names of files that are gone, or other than in the undisturbed run."""
    mine, others = artifacts(folder), artifacts(finished)
    return [name for name, path in others.items() if name not in mine or mine[name].read_bytes() != path.read_bytes()]


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int | None], None] | None]:
    """A disk of its own for a folder: a function that leaves so many bytes of room, or plenty. None where none can be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8g", "faults", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return

    def room(left: int | None) -> None:
        disk = os.statvfs(folder)
        size = 8 << 30 if left is None else (disk.f_blocks - disk.f_bfree) * disk.f_frsize + left
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield room
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def damage(path: Path, fault: str, rng: random.Random) -> None:
    """Truncate a file or flip one of its bits; its time stays."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    if fault == "truncate":
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.unlink()  # it may be a link to the undisturbed run's
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def disturb(run: Run, fault: str, after: int, seconds: float, rng: random.Random) -> bool:
    """Kill a worker or all of a run, so many seconds after so many of its jobs; whether it was not over before."""
    while run.finished() < after and not run.over():
        time.sleep(0.05)
    time.sleep(seconds)
    if fault == "group" and not run.over():
        run.kill()
        return True
    while not run.over():
        if workers := run.workers():
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def play(fault: str, rng: random.Random, finished: Path, folder: Path, graph, cores: int, cut="", victim="") -> Round:
    """One round in `folder`. `cut`: the file that is missing with all that follows from it; `victim`: the one to damage."""
    inputs, made_with = graph
    with ExitStack() as stack:
        room = stack.enter_context(small_disk(folder)) if fault == "disk" else None
        return _play(fault, rng, finished, folder, inputs, made_with, cores, cut, victim, room)


def _play(fault, rng, finished, folder, inputs, made_with, cores, cut, victim, room) -> Round:
    begun = time.monotonic()
    depth = {name: len({made_with[path] for path in behind(inputs, made_with, name)}) for name in sorted(inputs)}
    cut = cut or rng.choices(list(depth), [1 / n for n in depth.values()])[0]
    missing = behind(inputs, made_with, cut)
    copy(finished, folder, link=room is None)
    for name in missing:
        (folder / name).unlink()
    row, sizes = Round(fault, depth[cut]), [(finished / name).stat().st_size for name in missing]
    read = {path for name in missing for path in inputs[name]} - missing
    largest = None
    if fault in ("truncate", "flip"):
        row.moment = victim or rng.choice(sorted(path for path in read if path.endswith((".safetensors", ".json"))))
        damage(folder / row.moment, fault, rng)
    elif fault == "disk":
        share = rng.random()
        row.moment = f"{share:.0%} of the room" if room else f"no file above {share:.0%} of the largest"
        if room:
            room(int(share * sum(sizes)))
        else:
            largest = int(share * max(sizes))
    run = Run(folder, cores, largest)
    if fault in ("worker", "group"):
        after, seconds = rng.randrange(row.planned), rng.uniform(0, 2)
        row.moment = f"{seconds:.1f} s after job {after} of {row.planned}"
        if not disturb(run, fault, after, seconds, rng):
            row.moment = "over before"
    status, named, texts = run.wait(), False, []
    while True:
        texts.append(run.text)
        row.finished += run.finished()
        row.interrupted += run.started() - run.finished()
        if status == 0 or status is None or row.runs > 2:
            break
        if fault in ("truncate", "flip") and not named:
            if row.moment not in run.text:
                break
            named = True
            (folder / row.moment).unlink()
        if room:
            room(None)
        if list((folder / ".snakemake" / "locks").glob("*")):
            subprocess.run([*SNAKEMAKE, "--unlock"], cwd=folder, capture_output=True, check=True)
        run = Run(folder, cores)
        status = run.wait()
        row.runs += 1
    wrong = differing(finished, folder)
    if fault in ("truncate", "flip") and wrong == [row.moment] and (folder / row.moment).exists():
        wrong, unread = [], True  # it sleeps
    else:
        unread = False
    row.lost = len(wrong)
    row.left_over = len([path for path in folder.rglob(".*.tmp") if path.is_file()])
    if status == 0 and not wrong:
        row.outcome = "named" if named else "unread" if unread else "identical"
    else:
        why = "hangs" if status is None else f"exit status {status}" if status else f"differ: {', '.join(wrong[:3])}"
        row.outcome = f"FAILED, {why}"
        folder.with_suffix(".txt").write_text("\n=====\n".join(texts))
    row.seconds = time.monotonic() - begun
    return row


def prepare(folder: Path, cores: int) -> Path:
    """A working copy in which the test workflow ran undisturbed."""
    copy(folder, folder)
    run = Run(folder, cores)
    if run.wait() != 0:
        sys.exit(f"the undisturbed run failed:\n{run.text[-4000:]}")
    return folder


def table(rows: list[Round]) -> str:
    """A line per fault."""
    head = (
        "fault",
        "rounds",
        "survived",
        "named",
        "unread",
        "runs",
        "jobs cut off",
        "jobs repeated",
        "files lost",
        "left over",
        "s a round",
    )
    lines = ["| " + " | ".join(head) + " |", "|:--" + "|--:" * (len(head) - 1) + "|"]
    for fault in (*FAULTS, "all"):
        mine = [row for row in rows if fault in (row.fault, "all")]
        if mine:
            outcomes = [sum(row.outcome == outcome for row in mine) for outcome in ("named", "unread")]
            totals = [
                sum(getattr(row, key) for row in mine)
                for key in ("runs", "interrupted", "repeated", "lost", "left_over")
            ]
            cells = [
                fault,
                len(mine),
                sum(row.survived for row in mine),
                *outcomes,
                *totals,
                f"{sum(row.seconds for row in mine) / len(mine):.0f}",
            ]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS, help="in turn")
    parser.add_argument(
        "--folder", type=Path, help="where it runs; what failed is kept there (default: a temporary one)"
    )
    parser.add_argument("--json", type=Path, help="write the rounds here")
    options = parser.parse_args()
    base = options.folder or Path(tempfile.mkdtemp(prefix="tally-faults-"))
    finished = base / "finished"
    begun = time.monotonic()
    prepare(finished, options.cores)
    print(f"undisturbed: {len(artifacts(finished))} files in {time.monotonic() - begun:.0f} s; rounds in {base}")
    graph, rows = jobs(finished), []
    for number in tqdm(range(options.rounds), "faults", unit="round"):
        rng = random.Random(f"{options.seed} {number}")  # a round can be played again alone
        folder = base / f"round-{number:03}"
        rows.append(
            row := play(options.faults[number % len(options.faults)], rng, finished, folder, graph, options.cores)
        )
        tqdm.write(
            f"{number:3} {row.fault:8} {row.moment}: {row.outcome}, {row.runs} runs, {row.finished} of {row.planned} jobs"
        )
        if row.survived:
            shutil.rmtree(folder)
            folder.with_suffix(".log").unlink()
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"seed {options.seed}, {options.cores} cores, {(time.monotonic() - begun) / 60:.0f} minutes\n\n{table(rows)}")
    if not all(row.survived for row in rows):
        sys.exit(f"some rounds failed; see {base}")
    if options.folder is None:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
