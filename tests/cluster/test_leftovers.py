"""What a killed test run leaves of its cluster goes with the next start. Needs no SLURM."""

import fcntl
import subprocess
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import held


def pretend(folder: Path) -> subprocess.Popen:
    """A folder as the starter leaves it, with one daemon that runs."""
    (folder / "run").mkdir(parents=True)
    (folder / ".slurm-single-node").touch()
    daemon = subprocess.Popen(["sleep", "600"])
    started = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()[19]
    (folder / "run" / "munged.started").write_text(f"{daemon.pid} {started}\n")
    folder.with_suffix(".lock").touch()
    return daemon


@pytest.fixture
def parent():
    with tempfile.TemporaryDirectory(prefix="tally-", dir="/tmp") as folder:  # the starter wants short paths
        yield Path(folder)


def test_what_a_dead_run_left_is_ended_and_what_lives_is_not(parent):
    dead, alive = parent / "tally-slurm-dead", parent / "tally-slurm-alive"
    daemons = [pretend(dead), pretend(alive)]
    try:
        with alive.with_suffix(".lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with held(parent) as mine:
                assert mine.is_dir()
                assert daemons[0].wait(20) == -15
                assert daemons[1].poll() is None
                assert not dead.exists()
                assert not dead.with_suffix(".lock").exists()
                assert alive.exists()
        assert not mine.exists()
        assert not mine.with_suffix(".lock").exists()
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
