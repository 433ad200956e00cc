"""The workflow on a real SLURM cluster: Debian's daemons, one node, a partition without and one with GPUs."""

import math
import os
import signal
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from slurm_cluster import Cluster, rules_of_jobs, running, uninterrupted
from submissions import submissions
from tally.checkpoints import open_checkpoint
from tally.summary import stages
from workflow_runner import MICRO, ROOT, planned, snakemake, with_config

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]


@pytest.fixture(scope="module")
def cluster():
    with running(SLURM_TEST_ENFORCE_MEM="1") as found:
        yield found


class Run:
    """One run of the micro workflow through SLURM; a fine-tuning asks for a GPU that it does not use."""

    def __init__(self, cluster: Cluster, folder: Path):
        self.results, logs = folder / "results", folder / "slurm"
        self.config = ("--configfile", MICRO, "--config", f"results={self.results}", "precision=fp32")
        started = time.monotonic()
        done = cluster.snakemake("--slurm-logdir", logs, "--set-resources", "finetune:gpu=1", *self.config)
        self.seconds, self.said = time.monotonic() - started, done.stdout
        assert done.returncode == 0, done.stdout[-5000:]
        self.rules = rules_of_jobs(logs)
        self.jobs = {number: cluster.job(number) for number in self.rules}
        self.store = self.results / "mini-clip"


@pytest.fixture(scope="module")
def run(cluster, tmp_path_factory) -> Run:
    return Run(cluster, tmp_path_factory.mktemp("run"))


def megabytes(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths) / 2**20


def test_every_rule_ran_as_a_job(run, tmp_path):
    plan = planned(snakemake("--dry-run", config=with_config(tmp_path)).stdout)
    assert {rule for rules in run.rules.values() for rule in rules} == plan.keys()
    assert {job.state for job in run.jobs.values()} == {"COMPLETED"}
    assert "core-seconds" in run.said  # the summary


def kinds(rules: list[str]) -> str:
    return "+".join(sorted(set(rules)))


def test_short_jobs_are_submitted_as_one(run):
    parts = Counter(map(kinds, run.rules.values()))
    assert parts["base+prepare"] == 1
    assert parts["finetune+head+vector"] == 3  # one per task
    assert parts["mask+merge_vectors+vote"] == 2
    assert parts["bundle+figure+storage_table+table"] == 1
    assert len(run.jobs) <= 12, parts  # of 50 jobs of the workflow
    assert min(map(len, run.rules.values())) > 1, parts


def test_jobs_got_what_their_rules_ask(run):
    """Every submission: the largest job's memory, the time of all. What rules ask, for some of them, by hand."""
    base = open_checkpoint(run.store / "base.safetensors")
    weights = 4 * sum(math.prod(base.shape(name)) for name in base.names) / 2**20
    data = {path.stem: megabytes(path) for path in (run.store / "data").glob("*.safetensors")}
    asked = [job for _, jobs in submissions("--forceall", *run.config) for job in jobs]
    memory, minutes = defaultdict(set), {job.rule: job.minutes for job in asked}
    for job in asked:
        memory[job.rule].add(job.memory)
    assert memory["prepare"] == {4000}
    assert memory["finetune"] == {math.ceil(2000 + 8 * weights + size) for size in data.values()}
    assert memory["mask"] == {math.ceil(1500 + (5 + 1.5 * 3) * weights + sum(data.values()))}
    assert (minutes["finetune"], minutes["mask"], minutes["evaluate"]) == (240, 30, 30)
    for number, rules in run.rules.items():
        job = run.jobs[number]
        assert job.cores == 1
        assert job.memory in set().union(*(memory[rule] for rule in rules)), rules
        assert job.memory >= max(min(memory[rule]) for rule in rules), rules
        assert job.minutes == sum(minutes[rule] for rule in rules), rules


def test_what_asks_for_a_gpu_is_in_the_gpu_partition_and_nothing_else(run):
    for number, rules in run.rules.items():
        asked = int("finetune" in rules)
        assert run.jobs[number].gpus == asked, rules
        assert run.jobs[number].partition == ("gpu" if asked else "cpu"), rules


def test_tables_are_those_of_a_local_run_and_what_slurm_costs(run, tmp_path):
    started = time.monotonic()
    local = snakemake("--cores", "2", "--config", f"results={tmp_path}", "precision=fp32")
    seconds = time.monotonic() - started
    assert local.returncode == 0, local.stdout[-4000:]
    for table in ("main", "per_task", "paired", "choices"):
        part = f"mini-clip/micro/tables/{table}.csv"
        assert (run.results / part).read_bytes() == (tmp_path / part).read_bytes()

    def measured(store):
        return sum(row.seconds for row in stages(store).values())

    work, jobs, steps = measured(run.store), run.jobs.values(), sum(planned(local.stdout).values())
    busy = sum(job.seconds for job in jobs)
    print(
        f"\nwhole run: SLURM {run.seconds:.0f} s, local executor {seconds:.0f} s"
        f"\n{steps} jobs of the workflow in {len(jobs)} submissions: {busy:.0f} s in SLURM jobs, {work:.0f} s of it work;"
        f" overhead {(busy - work) / len(jobs):.1f} s a submission, {(busy - work) / steps:.1f} s a job"
        f" (local: {(2 * seconds - measured(tmp_path / 'mini-clip')) / steps:.1f} core-seconds a job)"
    )


def test_a_job_that_needs_more_memory_gets_it(cluster, tmp_path):
    """Killed by SLURM at 300 MB, submitted again with more."""
    head = tmp_path / "mini-clip" / "heads" / "digits.json"
    done = cluster.snakemake(
        head, "--slurm-logdir", tmp_path / "slurm", "--set-resources", "head:mem_mb=300 * attempt ** 3",
        "--configfile", MICRO, "--config", f"results={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert head.exists()
    tried = [cluster.job(int(path.stem)) for path in (tmp_path / "slurm").rglob("group_task*/*.log")]
    assert {(job.memory, job.state) for job in tried} == {(300, "FAILED"), (2400, "COMPLETED")}


def test_a_job_that_fails_is_reported_with_its_log_and_tried_with_more_memory(cluster, tmp_path):
    store = tmp_path / "mini-clip"
    flags = ("--configfile", MICRO, "--config", f"results={tmp_path}")
    data = store / "data" / "digits.safetensors"
    made = snakemake(data, store / "base.safetensors", "--cores", "1", "--config", f"results={tmp_path}")
    assert made.returncode == 0, made.stdout
    os.truncate(data, data.stat().st_size // 2)
    done = cluster.snakemake(
        store / "heads" / "digits.json", "--retries", "1", "--slurm-logdir", tmp_path / "slurm", *flags
    )
    assert done.returncode != 0
    told = done.stdout.split("head failed; the end of ", 1)[1]
    assert told.startswith(f"{store}/logs/head/digits.log:\n    tally: {data} is truncated")
    tried = sorted(
        (cluster.job(int(path.stem)) for path in (tmp_path / "slurm").rglob("*.log")), key=lambda job: job.id
    )
    assert [job.state for job in tried] == ["FAILED", "FAILED"]
    assert tried[1].memory == pytest.approx(2 * tried[0].memory, abs=2)


def wait(for_what, seconds: float, told: Path) -> None:
    end = time.monotonic() + seconds
    while not for_what() and time.monotonic() < end:
        time.sleep(0.5)
    assert for_what(), told.read_text()[-3000:]


def start(cluster: Cluster, folder: Path, *args) -> subprocess.Popen:
    """Snakemake in the background, what it says in `folder/said`."""
    command = uninterrupted(cluster.command("--slurm-logdir", folder / "slurm", *args))
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=said, stderr=said)


def test_a_training_whose_time_is_up_goes_on_at_the_next_attempt(cluster, tmp_path):
    store, before = tmp_path / "mini-clip", cluster.states()
    config = with_config(tmp_path, finetune={"steps": 600, "batch": 32, "warmup": 2})
    run = start(cluster, tmp_path, store / "finetuned" / "digits.json", "--configfile", config)
    log = store / "logs" / "finetune" / "digits.log"
    try:
        wait(lambda: log.exists() and " of 600 steps" in log.read_text(), 180, tmp_path / "said")  # its first line
        job = max(cluster.states().keys() - before.keys())
        cluster.ask("scancel", "--signal=TERM", str(job))  # as SLURM does by the profile's --signal
        assert run.wait(timeout=300) == 0, (tmp_path / "said").read_text()[-3000:]
    finally:
        run.kill()
    assert cluster.job(job).state == "FAILED"
    assert "goes on after step" in log.read_text()


def test_an_interrupt_cancels_what_runs_and_what_waits(cluster, tmp_path):
    before = cluster.states()
    config = with_config(tmp_path, finetune={"steps": 100_000, "batch": 32, "warmup": 2})
    targets = [tmp_path / "mini-clip" / "finetuned" / f"{task}.json" for task in ("digits", "colors", "charts")]
    run = start(cluster, tmp_path, *targets, "--set-resources", "finetune:gpu=1", "--configfile", config)

    def mine() -> Counter:
        return Counter(state for number, state in cluster.states().items() if number not in before)

    try:
        # one GPU: one fine-tuning runs, two wait
        wait(lambda: mine()["RUNNING"] == 1 and mine()["PENDING"] == 2, 120, tmp_path / "said")
        run.send_signal(signal.SIGINT)
        wait(lambda: mine()["CANCELLED"] == 3, 60, tmp_path / "said")
        run.wait(timeout=200)
    finally:
        run.kill()
    assert run.returncode != 0
    assert not list(tmp_path.glob("mini-clip/finetuned/*.json"))
