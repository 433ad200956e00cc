import signal
import subprocess
import sys
import time

import pytest
from tally import checksums, cli
from tally.errors import TallyError
from workflow_runner import ROOT


def tally(*args):
    return subprocess.run([sys.executable, "-m", "tally", *args], cwd=ROOT / "workflow", text=True, capture_output=True)


def test_help_lists_the_verbs_and_imports_nothing_heavy():
    code = "import sys; from tally import cli; cli.parser(); print({'torch', 'numpy', 'pandas'} & sys.modules.keys())"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "workflow", text=True, capture_output=True, check=True
    )
    assert run.stdout.strip() == "set()"
    page = tally("--help").stdout
    yours, _, stages = page.partition("stages of the workflow")
    for verb in ("compress", "restore", "merge", "inspect", "convert"):
        assert f"\n    {verb} " in yours
    for verb in ("prepare", "finetune", "merge-vectors", "mask", "vote", "consensus", "evaluate", "bundle", "table"):
        assert f"\n    {verb} " in stages
        assert f"\n    {verb} " not in yours


@pytest.mark.parametrize(
    "error", [TallyError("x.pt: is a pickle; convert it"), OSError(28, "No space left on device", "out")]
)
def test_errors_are_one_line_and_exit_code_2(monkeypatch, capsys, error):
    def fail(args):
        """Fail."""
        raise error

    monkeypatch.setattr(cli.tasks, "vector", fail)
    assert cli.main(["vector", "--base", "a", "--finetuned", "b", "--output", "c"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("tally: ")
    assert message.count("\n") == 1


def test_unknown_task_names_the_known_ones(tmp_path):
    run = tally(
        "prepare",
        "--task",
        "mnits",
        "--model",
        str(ROOT / "resources/mini-clip/open_clip_config.json"),
        "--resources",
        "resources",
        "--output",
        str(tmp_path / "x"),
        "--manifest",
        str(tmp_path / "x.tsv"),
    )
    assert run.returncode == 2
    assert "mnits" in run.stderr
    assert "mnist" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    verb = ["summary", str(tmp_path), "--cores", "1", "--suites", "x", "--started", "0"]
    command = [sys.executable, "-m", "tally", *verb]
    child = subprocess.Popen(command, cwd=ROOT / "workflow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 128 + signal.SIGPIPE


def test_progress_of_short_work_is_silent():
    from tally.progress import bar, seconds, timed

    with timed("training"):
        assert list(bar(range(3), "x")) == [0, 1, 2]
        time.sleep(0.01)
    assert seconds.pop("training") >= 0.01


def test_what_redoes_nothing_is_set_by_the_environment_or_a_flag(monkeypatch):
    files = [f"--{name}=x" for name in ("task", "model", "base", "data", "head", "output", "counts")]
    flags = ["finetune", *files, "--lr=1", "--steps=1"]
    assert cli.parser().parse_args(flags).minutes == 10
    monkeypatch.setenv("TALLY_MINUTES", "0.5")
    assert cli.parser().parse_args(flags).minutes == 0.5
    assert cli.parser().parse_args([*flags, "--minutes", "3"]).minutes == 3


@pytest.mark.parametrize(
    ("flags", "variable", "verified"), [([], "1", True), ([], "0", False), (["--no-verify"], "1", False)]
)
def test_files_are_verified_unless_told_otherwise(monkeypatch, flags, variable, verified):
    def look(args):
        """Look."""
        assert checksums.verify == verified

    monkeypatch.setattr(checksums, "verify", True)
    monkeypatch.setenv("TALLY_VERIFY", variable)
    monkeypatch.setattr(cli.tasks, "vector", look)
    assert cli.main([*flags, "vector", "--base", "a", "--finetuned", "b", "--output", "c"]) == 0
