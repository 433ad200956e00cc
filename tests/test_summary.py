import os

from tally import progress
from tally.summary import stages, text


def write(store, part, end, log):
    path = store / "logs" / f"{part}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log)
    os.utime(path, (end, end))


def test_stages_sum_jobs_and_find_their_work(tmp_path):
    write(tmp_path, "base", 1002.0, "seconds: all 2.00; 90 MB at most\n")
    write(
        tmp_path, "finetune/a", 1012.0, "3 of 6\nseconds: all 10.00, training 6.00, evaluation 1.50; 200 MB at most\n"
    )
    write(tmp_path, "finetune/b", 1010.0, "seconds: all 8.00, training 5.00; 300 MB at most\n")
    rows = stages(tmp_path)
    assert (rows["finetune"].jobs, rows["finetune"].seconds, rows["finetune"].work) == (2, 18.0, 12.5)
    assert rows["finetune"].memory == 300
    assert rows["base"].work == 0
    report = text(rows, {"base": 1, "finetune": 5, "bundle": 2}, wall=12, cores=2)
    table = {line.split()[0]: line.split()[1:] for line in report.splitlines()[1:-1]}
    assert list(table) == ["base", "finetune", "bundle"]
    assert table["finetune"] == ["2", "3", "18.0", "12.5", "300"]  # ran, were there already, seconds, work, memory
    assert table["bundle"][:2] == ["0", "2"]
    # 12 s of wall time on 2 cores hold 24 core-seconds, 12.5 of them work
    assert report.endswith(
        "12 s on 2 cores; training and evaluation 12 core-seconds, everything else 48% of the cores' time"
    )


def test_a_cluster_has_no_share_of_cores(tmp_path):
    write(tmp_path, "head/a", 1003.0, "seconds: all 3.00, evaluation 1.00; 9 MB at most\n")
    report = text(stages(tmp_path), {}, wall=30)
    assert report.endswith("30 s on a cluster, jobs 3 s; training and evaluation 1 core-seconds")


def test_a_job_that_did_not_finish_is_not_counted(tmp_path):
    write(tmp_path, "evaluate/s/ties", 1003.0, "evaluate: 20 s gone, 9 MB at most\nTraceback\n")
    assert stages(tmp_path) == {}


def test_what_ran_before_is_not_of_this_run(tmp_path):
    write(tmp_path, "head/a", 1003.0, "seconds: all 3.00; 9 MB at most\n")
    write(tmp_path, "head/b", 2004.0, "seconds: all 4.00; 9 MB at most\n")
    assert stages(tmp_path, since=1500)["head"].seconds == 4.0


def test_the_line_is_the_one_that_a_job_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "seconds", {"training": 2.5})
    write(tmp_path, "finetune/a", 1003.0, progress.spent(3.0) + "\n")
    row = stages(tmp_path)["finetune"]
    assert (row.seconds, row.work) == (3.0, 2.5)
    assert row.memory > 1
