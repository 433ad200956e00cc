import time

import pytest
from tally import progress

INTERVAL = progress.LOG_INTERVAL


@pytest.fixture(autouse=True)
def log(monkeypatch, capsys):
    """What the lines say; they come fast, and stderr is no terminal."""
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0.02)
    monkeypatch.setattr(progress, "quiet", False)
    return lambda: capsys.readouterr().err


def test_a_loop_reports_how_far_it_is_in_lines(log):
    with progress.heartbeat("finetune"):
        for _ in progress.bar(range(10), "fine-tune mnist", unit="step"):
            time.sleep(0.02)
    text = log()
    assert "\r" not in text
    assert len(text.splitlines()) >= 4
    assert all(line.startswith("fine-tune mnist: ") and " of 10 steps" in line for line in text.splitlines())
    assert "s left" in text


def test_resumed_work_counts_from_where_it_was(log):
    with progress.heartbeat("finetune"):
        for _ in progress.bar(range(8, 10), "fine-tune", total=10, unit="step", initial=8):
            time.sleep(0.05)
    assert log().startswith("fine-tune: 8 of 10 steps, 0 s gone")


def test_a_single_long_step_reports_too(log):
    with progress.heartbeat("merge-vectors"):
        time.sleep(0.1)
    assert log().startswith("merge-vectors: 0 s gone, ")


def test_a_search_of_unknown_length_reports_what_it_counted(log):
    with progress.heartbeat("evaluate"):
        progress.count(256, "images")
        progress.count(44, "images")
        time.sleep(0.1)
    assert "evaluate: 300 images, " in log()


def test_short_work_and_quiet_work_say_nothing(log, monkeypatch):
    with progress.heartbeat("base"):
        pass
    monkeypatch.setattr(progress, "quiet", True)
    with progress.heartbeat("finetune"):
        time.sleep(0.1)
    assert log() == ""


def test_work_that_becomes_quiet_says_nothing_more(log, monkeypatch):
    """As one of several processes, which learns only when it joins the others that it is not the first."""
    with progress.heartbeat("finetune"):
        time.sleep(0.1)
        monkeypatch.setattr(progress, "quiet", True)
        said = log()
        time.sleep(0.1)
    assert said
    assert len(log().splitlines()) <= 1  # one may have been on its way


def test_a_loop_that_stops_early_is_forgotten(log):
    for item in progress.bar("abc", "look"):
        if item == "b":
            break
    steps = iter(progress.bar(range(3), "step"))
    next(steps)
    with pytest.raises(ValueError, match="bad"):
        for _ in progress.bar([1], "fail"):
            raise ValueError("bad")
    del steps
    assert progress.loops == []


def test_a_long_job_reports_at_least_every_half_minute():
    assert INTERVAL <= 30
