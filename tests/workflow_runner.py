"""Run Snakemake on this repository as a user would, and read what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tally.cli import main

ROOT = Path(__file__).parents[1]
MICRO = ROOT / "tests" / "workflow" / "micro.yaml"


def snakemake(
    *args: str | Path, config: Path | None = MICRO, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`snakemake ARGS` from the top folder of a working copy; stdout and stderr are in `.stdout`."""
    command = [sys.executable, "-m", "snakemake", *map(str, args), "--max-jobs-per-timespan", "100/1s"]  # ends sooner
    if config is not None:
        command += ["--configfile", str(config)]
    return subprocess.run(
        command,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())} | environment,  # nothing activated
    )


def with_config(folder: Path, **changes) -> Path:
    """A config file in `folder`: the micro config with other values. (--config makes strings of nested numbers.)"""
    path = folder / f"{abs(hash(repr(changes)))}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(MICRO.read_text()) | {"results": str(folder)} | changes))
    return path


def in_this_process(config: Path) -> None:
    """Plan with Snakemake and run what it plans without it: importing torch once, and not once a job."""
    plan = snakemake("--dry-run", "--printshellcmds", config=config)
    assert plan.returncode == 0, plan.stdout[-2000:]
    commands = re.findall(r"python -m tally (.*?) 2> ", plan.stdout)
    assert len(commands) == sum(planned(plan.stdout).values())
    with pytest.MonkeyPatch.context() as environment:  # as the rules' shell sets it
        environment.setenv("TALLY_DATA", yaml.safe_load(config.read_text())["data"])
        for command in commands:
            assert main(["--quiet", *shlex.split(command)]) == 0, command


def planned(output: str) -> dict[str, int]:
    """The job counts of a dry run, without `all` and `total`."""
    if "Nothing to be done" in output:
        return {}
    table = output.split("Job stats:", 1)[1].split("total", 1)[0]
    counts = {name: int(n) for name, n in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
    counts.pop("all", None)
    return counts


def messages(output: str) -> list[str]:
    """The messages of a dry run's jobs."""
    return sorted(set(re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)))
