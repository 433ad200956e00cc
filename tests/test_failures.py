from tally.cli import main
from tally.failures import failed


def block(kind, name, *logs):
    """What Snakemake's log says of a failed job."""
    return (
        f"Error in {kind} {name}:\n    message: None\n    jobid: 3\n    output: a, b\n"
        f"    log: {', '.join(map(str, logs))} (check log file(s) for error details)\n    shell:\n        tally\n\n"
    )


def test_the_job_that_failed_and_its_last_lines(tmp_path, capsys):
    log, other = tmp_path / "digits.log", tmp_path / "mnist.log"
    log.write_text("step 1\nstep 2\n\ntally: data/digits.safetensors: damaged\n")
    other.write_text("fine\n")
    run = tmp_path / "snakemake.log"
    run.write_text("rule head:\n    log: mnist.log\n\n" + block("rule", "finetune", log) + "Shutting down\n")
    assert failed(run) == [("finetune", log)]
    assert main(["failures", str(run), "--lines", "2"]) == 0
    said = capsys.readouterr().out
    assert f"finetune failed; the end of {log}:\n    step 2\n    tally: data/digits.safetensors: damaged\n" in said


def test_a_jobs_log_is_found_through_the_schedulers(tmp_path):
    log, fine, slurm = tmp_path / "head.log", tmp_path / "fine.log", tmp_path / "42.log"
    log.write_text("tally: damaged\n")
    fine.write_text("seconds: evaluation 1.00\n")
    slurm.write_text("host: node7\n" + block("rule", "head", log))
    run = tmp_path / "snakemake.log"
    run.write_text(block("group", "task", slurm, fine, log) + block("group", "task", slurm, fine, log))
    assert failed(run) == [("head", log)]


def test_a_job_that_the_scheduler_ended_is_told_by_the_schedulers_log(tmp_path):
    slurm = tmp_path / "42.log"
    slurm.write_text("slurmstepd: error: *** JOB 42 CANCELLED DUE TO TIME LIMIT ***\n")
    run = tmp_path / "snakemake.log"
    run.write_text(block("rule", "finetune", tmp_path / "never-written.log", slurm))
    assert failed(run) == [("finetune", slurm)]
