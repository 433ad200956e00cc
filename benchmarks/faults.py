"""What the workflow survives: kills, full disks, damaged files; what is lost by it, and what is done again.

    python benchmarks/faults.py --rounds 50 --seed 0

The test workflow (three tasks, seconds of training) runs once, undisturbed, to its tables and bundles. A round starts from
a copy of that in which a random result and all that follows from it are missing - a run that is half through, mostly in its
later half, for rounds are to be short - and has one of these faults, in turn:

    worker    SIGKILL to a job at a random moment
    group     SIGKILL to Snakemake and all its jobs at a random moment
    disk      a disk (tmpfs) with room for a random share of what is missing; without the right to mount one, a limit on the
              size of files. Afterwards there is room
    truncate  a file that the rest of the run reads, safetensors or JSON, loses a random part of its end
    flip      a random bit of such a file is flipped

Then `snakemake --rerun-incomplete` has to end with every tensor file, record and table byte for byte as in the undisturbed
run, or to stop with a line that names the damaged file; once that is deleted the next run has to end so.
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
MICRO = ROOT / "tests" / "workflow" / "micro.yaml"
SHARED = ("Snakefile", "config", "envs", "profiles", "resources", "workflow")  # of a working copy: links
STORE = "results/mini-clip"
BUNDLES = [f"{STORE}/micro/bundles/{method}.safetensors" for method in ("task-arithmetic", "ties")]
SNAKEMAKE = [sys.executable, "-m", "snakemake", f"{STORE}/micro/tables/main.csv", *BUNDLES, "--configfile", str(MICRO)]
SNAKEMAKE += ["--config", "precision=fp32"]
KILLS, DAMAGES = ("worker", "group"), ("truncate", "flip")
FAULTS = (*KILLS, "disk", *DAMAGES)
PATIENCE = 900  # seconds after which a run hangs
RUNS = 4  # after so many nothing will help


@dataclass
class Round:
    """What was done, and what came of it."""

    fault: str
    planned: int  # jobs that were missing
    moment: str = ""  # when or how much, or the damaged file
    outcome: str = ""  # "identical"; "named": stopped with the damaged file's name, then identical; "unread"; "FAILED"
    why: str = ""  # it failed
    runs: int = 0
    finished: int = 0  # jobs of all runs
    cut_off: int = 0  # jobs that a kill or an error ended
    lost: int = 0  # files that are gone, or other than in the undisturbed run
    left_over: int = 0  # temporary files of dead writers
    seconds: float = 0.0

    @property
    def repeated(self) -> int:
        return max(self.finished - self.planned, 0)


class Finished:
    """A working copy in which the test workflow ran undisturbed, and what its files follow from."""

    def __init__(self, folder: Path):
        self.folder = folder
        command = [*SNAKEMAKE, "--detailed-summary"]
        answer = subprocess.run(
            command, cwd=folder, env=environment(), text=True, capture_output=True, check=True
        ).stdout
        rows = list(csv.DictReader(answer[answer.index("output_file\t") :].splitlines(), delimiter="\t"))
        self.inputs, together = {}, defaultdict(set)
        for row in rows:
            self.inputs[row["output_file"]] = {
                path for path in row["input-file(s)"].split(",") if path.startswith(STORE)
            }
            together[row["log-file(s)"]].add(row["output_file"])
        self.outputs = {name: names for names in together.values() for name in names}  # of the job that makes a file

    @cached_property
    def jobs(self) -> dict[str, int]:
        """File -> how many jobs it is away from the end, its own counted."""
        return {name: len({min(self.outputs[path]) for path in self.behind(name)}) for name in sorted(self.inputs)}

    def behind(self, name: str) -> set[str]:
        """What the job of this file makes, and all that follows from it."""
        gone, more = set(), self.outputs[name]
        while more:
            gone |= more
            more = {path for out, needs in self.inputs.items() if needs & gone for path in self.outputs[out]} - gone
        return gone

    def some(self, names: Iterable[str], rng: random.Random) -> str:
        """One of these files; the more jobs follow from it the rarer, or most rounds would be the whole workflow."""
        names = sorted(names)
        return rng.choices(names, [1 / self.jobs[name] for name in names])[0]

    @cached_property
    def artifacts(self) -> dict[str, bytes]:
        """Name -> content of everything but logs, times and figures."""
        return {name: path.read_bytes() for name, path in artifacts(self.folder).items()}


def artifacts(folder: Path) -> dict[str, Path]:
    kinds, apart = (".safetensors", ".json", ".csv", ".md", ".tex"), {"logs", "benchmarks", "figures"}
    paths = sorted(path for path in (folder / STORE).rglob("[!.]*") if path.suffix in kinds)
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path for name, path in names.items() if not apart & set(Path(name).parts)}


def environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "OMP_NUM_THREADS": "1"}


class Run:
    """A call of Snakemake on a working copy. Its output is beside the copy, whose disk may be full."""

    def __init__(self, folder: Path, cores: int, largest: int | None = None):
        """largest: bytes that a file may have."""
        command = [*SNAKEMAKE, "--cores", str(cores), "--rerun-incomplete", "--max-jobs-per-timespan", "100/1s"]
        self.log = folder.with_suffix(".log")
        limit = None if largest is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True, preexec_fn=limit
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def finished(self) -> int:
        return len(re.findall(r"^Finished jobid: \d+ \(Rule: ", self.text, re.MULTILINE))

    @property
    def started(self) -> int:
        return len(re.findall(r"^Job \d+: ", self.text, re.MULTILINE))

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int | None:
        """The exit status; None for a run that hung and was killed."""
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
            with suppress(OSError):
                group = int((path / "stat").read_text().rpartition(")")[2].split()[2])
                if group == self.process.pid and b"-m\0tally\0" in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def disturb(self, fault: str, after: int, seconds: float, rng: random.Random) -> None:
        """Kill a job or everything, `seconds` after the job number `after` began, unless the run is over by then."""
        while self.started < after and not self.over:
            time.sleep(0.05)
        time.sleep(seconds)
        if fault == "group" and not self.over:
            return self.kill()
        while not self.over:
            if workers := self.workers():
                with suppress(ProcessLookupError):
                    return os.kill(rng.choice(workers), signal.SIGKILL)
            time.sleep(0.01)


def copy(finished: Path | None, folder: Path, link: bool = True) -> None:
    """A working copy with the results of another. Tensors may be linked: they are replaced, never written into."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    paths = [] if finished is None else [*(finished / "results").rglob("*"), *(finished / ".snakemake").rglob("*")]
    for path in (path for path in paths if path.is_file()):
        target = folder / path.relative_to(finished)
        target.parent.mkdir(parents=True, exist_ok=True)
        if link and path.suffix == ".safetensors":
            target.hardlink_to(path)
        else:
            shutil.copy2(path, target)


@contextmanager
def disk(folder: Path, own: bool) -> Iterator[Callable[[int | None], None] | None]:
    """If `own`, a disk for this folder alone: a function that leaves it so many bytes, or plenty. None if that cannot be."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8g", "faults", str(folder)]
    if not own or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return

    def leave(room: int | None) -> None:
        disk = os.statvfs(folder)
        size = 8 << 30 if room is None else (disk.f_blocks - disk.f_bfree) * disk.f_frsize + room
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield leave
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def damage(path: Path, fault: str, rng: random.Random) -> None:
    """Truncate a file or flip one of its bits; its time stays as it is."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    if fault == "truncate":
        del content[rng.randrange(len(content)) :]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.unlink()  # it may be a link to the undisturbed run's
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def play(
    fault: str, rng: random.Random, finished: Finished, folder: Path, cores: int, cut: str = "", victim: str = ""
) -> Round:
    """One round in a new folder. `cut` is what is missing with all that follows, `victim` what is damaged; or random ones."""
    begun = time.monotonic()
    cut = cut or finished.some({min(names) for names in finished.outputs.values()}, rng)
    missing, row, largest = finished.behind(cut), Round(fault, finished.jobs[cut]), None
    with disk(folder, fault == "disk") as leave:
        copy(finished.folder, folder, link=leave is None)
        for name in missing:
            (folder / name).unlink()
        if fault in DAMAGES:
            read = {path for name in missing for path in finished.inputs[name]} - missing
            row.moment = victim or finished.some(
                (name for name in read if name.endswith((".safetensors", ".json"))), rng
            )
            damage(folder / row.moment, fault, rng)
        elif fault == "disk":
            share, sizes = rng.random(), [len(finished.artifacts[name]) for name in missing]
            row.moment = f"{share:.0%} of the {'room' if leave else 'largest file'}"
            if leave:
                leave(int(share * sum(sizes)))
            else:
                largest = int(share * max(sizes))
        run = Run(folder, cores, largest)
        if fault in KILLS:
            after, seconds = rng.randint(1, row.planned), rng.uniform(0, 4)
            row.moment = f"{seconds:.1f} s into job {after} of {row.planned}"
            run.disturb(fault, after, seconds, rng)
        said = settle(row, run, folder, cores, leave)
        judge(row, finished, folder)
    if row.outcome == "FAILED":
        folder.with_suffix(".txt").write_text("\n=====\n".join([json.dumps(asdict(row)), *said]))
    row.seconds = time.monotonic() - begun
    return row


def settle(row: Round, run: Run, folder: Path, cores: int, leave: Callable | None) -> list[str]:
    """Run again until it ends well, doing between two runs what they say and no more. Returns what they said."""
    said = []
    while True:
        status = run.wait()
        row.runs, row.finished, row.cut_off = (
            row.runs + 1,
            row.finished + run.finished,
            row.cut_off + run.started - run.finished,
        )
        said.append(run.text)
        if status == 0:
            return said
        if status is None or row.runs == RUNS:
            row.why = "a run hangs" if status is None else f"{RUNS} runs did not end well"
            return said
        if row.fault in DAMAGES:
            if row.moment not in run.text or row.outcome == "named":
                row.why = "stopped without the damaged file's name"
                return said
            row.outcome = "named"
            (folder / row.moment).unlink()
        if leave:
            leave(None)
        if any((folder / ".snakemake" / "locks").glob("*")):
            subprocess.run([*SNAKEMAKE, "--unlock"], cwd=folder, env=environment(), capture_output=True, check=True)
        run = Run(folder, cores)


def judge(row: Round, finished: Finished, folder: Path) -> None:
    """Compare with the undisturbed run. A damaged file whose damage nobody read is no loss: it is told when it is read."""
    mine = artifacts(folder)
    wrong = [
        name for name, content in finished.artifacts.items() if name not in mine or mine[name].read_bytes() != content
    ]
    if row.fault in DAMAGES and not row.outcome and row.moment in wrong and row.moment in mine:
        row.outcome = "unread"
        wrong.remove(row.moment)
    row.lost, row.left_over = len(wrong), len(list((folder / STORE).rglob(".*.tmp")))
    row.why = row.why or (f"{len(wrong)} files differ: {' '.join(wrong[:3])}" if wrong else "")
    row.outcome = "FAILED" if row.why else row.outcome or "identical"


def table(rows: list[Round]) -> str:
    """A line per fault, in Markdown."""
    titles = {
        "runs": "runs",
        "cut_off": "jobs cut off",
        "repeated": "jobs repeated",
        "lost": "files lost",
        "left_over": "left over",
    }
    head = ["fault", "rounds", "survived", "of them named", "unread", *titles.values(), "seconds a round"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for fault in (*FAULTS, "all"):
        mine = [row for row in rows if fault in (row.fault, "all")]
        if mine:
            outcomes = [sum(row.outcome == outcome for row in mine) for outcome in ("FAILED", "named", "unread")]
            totals = [sum(getattr(row, key) for row in mine) for key in titles]
            seconds = sum(row.seconds for row in mine) / len(mine)
            lines.append([fault, len(mine), len(mine) - outcomes[0], *outcomes[1:], *totals, f"{seconds:.0f}"])
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    parser.add_argument(
        "--folder",
        type=Path,
        help="where it runs; the undisturbed run stays there, and is not repeated, and rounds that fail (default: a temporary one)",
    )
    parser.add_argument("--json", type=Path, help="write the rounds here too")
    options = parser.parse_args()
    base, begun = options.folder or Path(tempfile.mkdtemp(prefix="tally-faults-")), time.monotonic()
    if not (base / "finished").exists():
        copy(None, base / "finished")
    run = Run(base / "finished", options.cores)
    if run.wait() != 0:
        sys.exit(f"the undisturbed run failed:\n{run.text[-4000:]}")
    print(f"undisturbed: {run.finished} jobs, {time.monotonic() - begun:.0f} s; rounds in {base}", flush=True)
    begun, finished, rows = time.monotonic(), Finished(base / "finished"), []
    for number in tqdm(range(options.rounds), "faults", unit="round"):
        rng, folder = random.Random(f"{options.seed} {number}"), base / f"round-{number:03}"
        row = play(options.faults[number % len(options.faults)], rng, finished, folder, options.cores)
        rows.append(row)
        tqdm.write(
            f"{number:3} {row.fault}, {row.moment}: {row.outcome} {row.why}; {row.runs} runs, "
            f"{row.finished} jobs where {row.planned} were missing, {row.seconds:.0f} s"
        )
        if row.outcome != "FAILED":
            shutil.rmtree(folder)
            folder.with_suffix(".log").unlink()
        if options.json:
            options.json.write_text(
                json.dumps([asdict(row) | {"repeated": row.repeated} for row in rows], indent=1) + "\n"
            )
    print(f"seed {options.seed}, {options.cores} cores, {(time.monotonic() - begun) / 60:.0f} minutes\n\n{table(rows)}")
    if any(row.outcome == "FAILED" for row in rows):
        sys.exit(f"some rounds failed; see {base}/*.txt")
    if options.folder is None:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
