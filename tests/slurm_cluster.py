"""A SLURM cluster of this one machine, and what it says of its jobs."""

import fcntl
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from workflow_runner import ROOT

SCRIPT = ROOT / "tests" / "cluster" / "slurm-single-node.sh"
# the cluster of the tests keeps no accounts, and its jobs take seconds
FLAGS = (
    "--profile", "profiles/slurm", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1",
    "--slurm-keep-successful-logs", "--latency-wait", "5",
)  # fmt: skip


@dataclass
class Job:
    """A job as scontrol shows it."""

    id: int
    partition: str
    state: str
    cores: int
    memory: int  # MB
    minutes: int
    gpus: int
    seconds: float  # it ran


@dataclass
class Cluster:
    """A running cluster: `environment` is what a shell needs to use it."""

    environment: dict[str, str]

    def command(self, *args: str | Path) -> list[str]:
        return [sys.executable, "-m", "snakemake", *FLAGS, *map(str, args)]

    def snakemake(self, *args: str | Path) -> subprocess.CompletedProcess[str]:
        """`snakemake --profile profiles/slurm ARGS` from the top folder; stdout and stderr are in `.stdout`."""
        return subprocess.run(
            self.command(*args), cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=1500,
        )  # fmt: skip

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, text=True, check=True, capture_output=True).stdout

    def job(self, number: int) -> Job:
        fields = dict(part.split("=", 1) for part in self.ask("scontrol", "show", "job", "-o", str(number)).split())
        tres = dict(part.split("=") for part in fields["TRES"].split(","))
        begin, end = (datetime.fromisoformat(fields[name]) for name in ("StartTime", "EndTime"))
        gpus = int(fields.get("TresPerJob", "gpu:0").rpartition(":")[2])  # gres:gpu:1
        hours, minutes, _ = fields["TimeLimit"].split("-")[-1].split(":")
        return Job(
            number, fields["Partition"], fields["JobState"], int(tres["cpu"]), int(tres["mem"].removesuffix("M")),
            60 * int(hours) + int(minutes), gpus, (end - begin).total_seconds(),
        )  # fmt: skip

    def states(self) -> dict[int, str]:
        """Job number -> state, of all jobs so far."""
        rows = self.ask("squeue", "--states=all", "--noheader", "--format=%i %T").splitlines()
        return {int(number): state for number, state in map(str.split, rows)}


def rules_of_jobs(folder: Path) -> dict[int, list[str]]:
    """SLURM job number -> the rules that ran in it, one for each of its jobs, by the logs that the plugin wrote to `folder`."""
    found = {}
    for path in folder.rglob("*.log"):
        said = re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)$", path.read_text(), re.MULTILINE)
        found[int(path.stem)] = sorted(said)[::2]  # by the job's own Snakemake, and by the submission's
    return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def held(parent: Path) -> Iterator[Path]:
    """A new folder for a cluster, wiped with its daemons at the end; first those are that a killed test run left.

    A lock file beside each tells: the system lets go of it when its process dies, however it dies.
    """
    with (parent / f"tally-slurm-{os.getuid()}").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for left in parent.glob("tally-slurm-*.lock"):
            with suppress(OSError), left.open("r+") as file:  # another user's, or in use
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                wipe(left.with_suffix(""))
                left.unlink()
        folder = Path(tempfile.mkdtemp(prefix="tally-slurm-", dir=parent))
        lock = folder.with_suffix(".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        wipe(folder)
        folder.with_suffix(".lock").unlink()
        lock.close()


def wipe(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()  # nothing was started in it
    subprocess.run([SCRIPT, "wipe", folder], check=True, capture_output=True)


@contextmanager
def running(**settings: str) -> Iterator[Cluster]:
    """Start a cluster, or skip the test and say why; stop it at the end."""
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install 'tally-merge[slurm]' is needed")
    ports = {"SLURM_TEST_CTLD_PORT": str(free_port()), "SLURM_TEST_NODE_PORT": str(free_port())}
    with held(Path("/tmp")) as folder:  # sockets want short paths
        start = subprocess.run(
            [SCRIPT, "start", folder], env=os.environ | ports | settings, text=True, capture_output=True
        )
        if start.returncode:
            said = start.stderr.strip().splitlines() or [f"{SCRIPT.name} ended with {start.returncode}, without a word"]
            pytest.skip(f"no SLURM cluster here: {said[-1]}")
        path = f"{folder}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        home = {"HOME": str(Path.home()), "SLURM_CONF": f"{folder}/etc/slurm.conf"}
        yield Cluster({"PATH": path, **home, **{name: os.environ[name] for name in THREADS if name in os.environ}})


THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def uninterrupted(command: list[str]) -> list[str]:
    """A command that heeds SIGINT also where the tests themselves are run in the background and ignore it."""
    reset = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", reset, *command]
