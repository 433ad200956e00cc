import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from tally import accelerators
from tally.accelerators import take
from tally.errors import TallyError
from workflow_runner import ROOT

# holds a pretend device for a moment and notes when: device, from, to
JOB = """
import sys, time
from pathlib import Path
from tally.accelerators import lease
folder, devices, seconds = Path(sys.argv[1]), sys.argv[2].split(), float(sys.argv[3])
device = lease(devices, folder / "locks", poll=0.01)
begin = time.monotonic()
print(device, flush=True)
time.sleep(seconds)
print(begin, time.monotonic(), flush=True)
"""


def job(folder, devices, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", JOB, folder, " ".join(devices), str(seconds)],
        cwd=ROOT / "workflow", text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_many_jobs_never_share_a_device_and_leave_none_idle(tmp_path):
    devices = ["GPU-a", "GPU-b", "GPU-c"]
    jobs = [job(tmp_path, devices, 0.3) for _ in range(24)]
    spans = {device: [] for device in devices}
    for one in jobs:
        device, begin, end = one.communicate()[0].split()
        spans[device].append((float(begin), float(end)))
    for device, held in spans.items():
        held.sort()
        assert held, device
        assert all(end <= begin for (_, end), (begin, _) in pairwise(held)), device


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
    held = {"gpu-0"}

    def lease(devices, folder):
        return next(device for device in devices if device not in held)

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
