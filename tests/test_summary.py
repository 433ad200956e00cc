import os

from tally.summary import stages, text


def write(store, part, seconds, end, log="", rss="100.0"):
    path = store / "benchmarks" / f"{part}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0\t{rss}\n")
    os.utime(path, (end, end))
    path = store / "logs" / f"{part}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log)


def test_stages_sum_jobs_and_find_their_work(tmp_path):
    write(tmp_path, "base", 2.0, 1002.0, rss="-")
    write(tmp_path, "finetune/a", 10.0, 1012.0, "tqdm\nseconds: training 6.00, evaluation 1.50\n")
    write(tmp_path, "finetune/b", 8.0, 1010.0, "seconds: training 5.00\n", rss="300.5")
    rows = stages(tmp_path)
    assert (rows["finetune"].jobs, rows["finetune"].seconds, rows["finetune"].work) == (2, 18.0, 12.5)
    assert rows["finetune"].memory == 300.5
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
    write(tmp_path, "head/a", 3.0, 1003.0, "seconds: evaluation 1.00\n")
    report = text(stages(tmp_path), {}, wall=30)
    assert report.endswith("30 s on a cluster, jobs 3 s; training and evaluation 1 core-seconds")


def test_a_log_cut_short_counts_nothing(tmp_path):
    write(tmp_path, "evaluate/s/ties", 3.0, 1003.0, "Traceback\n")
    assert stages(tmp_path)["evaluate"].work == 0


def test_what_ran_before_is_not_of_this_run(tmp_path):
    write(tmp_path, "head/a", 3.0, 1003.0)
    write(tmp_path, "head/b", 4.0, 2004.0)
    assert stages(tmp_path, since=1500)["head"].seconds == 4.0
