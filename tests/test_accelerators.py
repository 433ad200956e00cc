import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise

import pytest
import torch
from tally import accelerators
from tally.accelerators import lease, take, take_for_ranks
from tally.errors import TallyError
from workflow_runner import ROOT

# holds pretend devices for a moment and notes when: devices, from, to
JOB = """
import sys, time
from pathlib import Path
from tally.accelerators import lease
folder, devices, number, seconds = Path(sys.argv[1]), sys.argv[2].split(), int(sys.argv[3]), float(sys.argv[4])
held = lease(devices, folder / "locks", number, poll=0.01)
begin = time.monotonic()
print(*held, flush=True)
time.sleep(seconds)
print(begin, time.monotonic(), flush=True)
"""

# what `multiply` does on a machine with two GPUs, but for torch and torchrun: becomes a program that notes what it sees
TRAINING = """
import os, sys, types
from pathlib import Path
cuda = types.SimpleNamespace(
    is_available=lambda: True, device_count=lambda: 2,
    get_device_properties=lambda number: types.SimpleNamespace(uuid=f"gpu-{number}"),
)
mps = types.SimpleNamespace(is_available=lambda: False)
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda, backends=types.SimpleNamespace(mps=mps))
from tally import accelerators
accelerators.FOLDER = Path(sys.argv[1]) / "locks"
accelerators.take_for_ranks("cuda", 2)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
"""
RANKS = """
import os, time
begin = time.monotonic()
time.sleep(0.3)
print(os.environ["CUDA_VISIBLE_DEVICES"], begin, time.monotonic())
"""


def start(script, *args, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        cwd=ROOT / "workflow", text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | environment,
    )  # fmt: skip


def job(folder, devices, seconds, number=1):
    return start(JOB, folder, " ".join(devices), number, seconds)


def follow_one_another(spans) -> bool:
    spans = sorted((float(begin), float(end)) for begin, end in spans)
    return all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_many_jobs_never_share_a_device_and_leave_none_idle(tmp_path):
    devices = ["GPU-a", "GPU-b", "GPU-c"]
    jobs = [job(tmp_path, devices, 0.3) for _ in range(24)]
    spans = {device: [] for device in devices}
    for one in jobs:
        device, begin, end = one.communicate()[0].split()
        spans[device].append((begin, end))
    for device, held in spans.items():
        assert held, device
        assert follow_one_another(held), device


def test_jobs_of_several_devices_get_them_all_or_wait_without(tmp_path):
    """Two that each held one of two would wait for ever."""
    devices, spans = ["GPU-a", "GPU-b", "GPU-c"], defaultdict(list)
    jobs = [job(tmp_path, devices[:: 1 if i % 2 else -1], 0.1, number=1 + i % 3) for i in range(24)]
    for i, one in enumerate(jobs):
        *held, begin, end = one.communicate(timeout=120)[0].split()
        assert len(set(held)) == 1 + i % 3
        for device in held:
            spans[device].append((begin, end))
    assert all(follow_one_another(held) for held in spans.values())


def test_more_devices_than_there_are(tmp_path):
    with pytest.raises(TallyError, match="3 processes want a GPU each, and here are 2; use no more processes"):
        lease(["GPU-a", "GPU-b"], tmp_path, 3)


@pytest.mark.parametrize(("visible", "seen"), [("", "0,1"), ("GPU-x,GPU-y", "GPU-x,GPU-y")])
def test_the_devices_of_ranks_stay_held_by_what_starts_them(tmp_path, visible, seen):
    said = [start(TRAINING, tmp_path, RANKS, CUDA_VISIBLE_DEVICES=visible) for _ in range(6)]
    rows = [one.communicate(timeout=120)[0].split() for one in said]
    assert {row[0] for row in rows} == {seen}
    assert follow_one_another(row[1:] for row in rows)


def test_a_rank_takes_the_device_of_its_number(four_gpus, monkeypatch):
    take_for_ranks("cuda", 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert take("cuda") == torch.device("cuda:1")


def test_ranks_on_cpus_need_no_lease(monkeypatch):
    take_for_ranks("cpu", 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert take("cpu") == torch.device("cpu")


def test_a_killed_holder_frees_its_device(tmp_path):
    first = job(tmp_path, ["GPU-a"], 600)
    assert first.stdout.readline() == "GPU-a\n"
    second = job(tmp_path, ["GPU-a"], 0)
    time.sleep(0.2)
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=120)[0].startswith("GPU-a\n")


@pytest.fixture
def four_gpus(monkeypatch, tmp_path):
    """A machine with four GPUs of which another process holds the first."""

    def lease(devices, folder, processes):
        return [device for device in devices if device != "gpu-0"][:processes]

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: type("Properties", (), {"uuid": f"gpu-{n}"}))
    monkeypatch.setattr(accelerators, "lease", lease)


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:3", "cuda:3"), ("cpu", "cpu")]
)
def test_names_on_a_machine_with_gpus(four_gpus, name, device):
    assert take(name) == torch.device(device)


@pytest.mark.parametrize(
    ("name", "words"), [("cuda:4", "not available"), ("gpu", "use auto, cpu, cuda"), ("cpu:1", "use")]
)
def test_names_that_mean_nothing_here(four_gpus, name, words):
    with pytest.raises(TallyError, match=f"device {name} .*{words}|device {name}; {words}"):
        take(name)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has an accelerator")
def test_names_on_a_machine_without():
    assert take("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0", "mps"):
        with pytest.raises(TallyError, match=f"device {name} is not available here; use"):
            take(name)
