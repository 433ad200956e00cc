import os

from tally.cli import main
from tally.failures import failed


def block(rule, *logs):
    """What Snakemake's log says of a failed job."""
    return (
        f"Error in rule {rule}:\n    message: None\n    jobid: 3\n    output: a, b\n"
        f"    log: {', '.join(map(str, logs))} (check log file(s) for error details)\n    shell:\n        tally\n\n"
    )


def group(name, slurm, jobs):
    """What it says of a failed group: every job of it, failed or not."""
    said = "(check log file(s) for error details)\n"
    return f"[date]\n    message: Error in group {name}\n    log: {slurm} {said}    jobs:\n" + "".join(
        f"        rule {rule}:\n            log: {log} {said}    Error in rule {rule}:\n        log: {log} {said}"
        for rule, log in jobs.items()
    )


def test_the_job_that_failed_and_its_last_lines(tmp_path, capsys):
    log, other = tmp_path / "digits.log", tmp_path / "mnist.log"
    log.write_text("step 1\nstep 2\n\ntally: data/digits.safetensors: damaged\n")
    other.write_text("fine\n")
    run = tmp_path / "snakemake.log"
    run.write_text("rule head:\n    log: mnist.log\n\n" + block("finetune", log) + "Shutting down\n")
    assert failed(run) == [("finetune", log)]
    assert main(["failures", str(run), "--lines", "2"]) == 0
    said = capsys.readouterr().out
    assert f"finetune failed; the end of {log}:\n    step 2\n    tally: data/digits.safetensors: damaged\n" in said


def test_a_jobs_log_is_found_through_the_schedulers(tmp_path):
    log, fine, slurm = tmp_path / "head.log", tmp_path / "fine.log", tmp_path / "42.log"
    log.write_text("tally: damaged\n")
    fine.write_text("seconds: evaluation 1.00\n")
    slurm.write_text("host: node7\n" + block("head", log))
    run = tmp_path / "snakemake.log"
    run.write_text(2 * (group("task", slurm, {"prepare": fine, "head": log}) + "Trying to restart job 7.\n"))
    assert failed(run) == [("head", log)]


def test_a_job_that_the_scheduler_ended_is_told_by_the_schedulers_log(tmp_path):
    slurm = tmp_path / "42.log"
    slurm.write_text("slurmstepd: error: *** JOB 42 CANCELLED DUE TO TIME LIMIT ***\n")
    run = tmp_path / "snakemake.log"
    run.write_text(block("finetune", tmp_path / "never-written.log", slurm))
    assert failed(run) == [("finetune", slurm)]


def test_a_group_that_the_scheduler_ended_is_told_by_its_log_and_that_of_the_job_it_was_at(tmp_path):
    fine, log, slurm = tmp_path / "head.log", tmp_path / "finetune.log", tmp_path / "42.log"
    for second, path in enumerate((fine, log, slurm)):
        path.write_text("text\n")
        os.utime(path, (second, second))
    run = tmp_path / "snakemake.log"
    run.write_text(group("task", slurm, {"head": fine, "finetune": log}))
    assert failed(run) == [("task", log), ("task", slurm)]
