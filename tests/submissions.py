"""What a run through profiles/slurm would submit, by a dry run."""

import json
import subprocess
import sys
from dataclasses import dataclass

from workflow_runner import ROOT

# Snakemake whose dry run prints every submission with its jobs, and what they ask for
SPY = """
import json, sys
from snakemake.cli import main
from snakemake.executors import dryrun
from snakemake.resources import GroupResources

ASKED = ("_cores", "mem_mb", "runtime", "gpu")

def asked(name, group, resources):
    return [name, group, *(resources.get(key, 0) for key in ASKED)]

def run_job(self, job, run=dryrun.Executor.run_job):
    if job.is_group():
        jobs = [asked(one.rule.name, one.group, one.resources) for one in job.jobs]
        together = GroupResources.basic_layered(job.toposorted, job.global_resources, run_local=False)
        print("SUBMISSION", json.dumps([asked(None, jobs[0][1], together), jobs], default=str), flush=True)
    elif not job.rule.norun and job.rule.name not in job.rule.workflow._localrules:
        alone = asked(job.rule.name, None, job.resources)
        print("SUBMISSION", json.dumps([alone, [alone]], default=str), flush=True)
    run(self, job)

dryrun.Executor.run_job = run_job
main(sys.argv[1:])
"""


@dataclass
class Asked:
    """What a job of the workflow asks for, or all that are submitted as one."""

    rule: str | None
    group: str | None
    cores: int
    memory: int | str  # MB; a text where it depends on files that are not there yet
    minutes: int
    gpus: int


def submissions(*args) -> list[tuple[Asked, list[Asked]]]:
    """Of `snakemake --profile profiles/slurm ARGS`: what each asks for, and what its jobs do."""
    flags = ("--dry-run", "--profile", "profiles/slurm", "--cores", "1000")  # or a dry run has one core
    command = [sys.executable, "-c", SPY, *flags, *map(str, args)]
    run = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout[-3000:]
    rows = [json.loads(line.split(" ", 1)[1]) for line in run.stdout.splitlines() if line.startswith("SUBMISSION ")]
    return [(Asked(*together), [Asked(*job) for job in jobs]) for together, jobs in rows]
