import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tally import ranks
from tally.checkpoints import open_checkpoint, save
from tally.errors import TallyError
from tally.ranks import Ranks, multiply
from workflow_runner import ROOT


@given(st.integers(1, 200), st.integers(1, 5), st.integers(1, 5))
def test_the_parts_of_all_ranks_are_the_batch(batch, world, pieces):
    if batch < world * pieces:
        with pytest.raises(TallyError, match=f"a batch of {batch} cannot be cut"):
            Ranks(0, world).parts(batch, pieces)
        return
    parts = [part for rank in range(world) for part in Ranks(rank, world).parts(batch, pieces)]
    rows = [row for part in parts for row in range(batch)[part]]
    assert rows == list(range(batch))
    sizes = {part.stop - part.start for part in parts}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_processes_need_a_device_each(device):
    with pytest.raises(TallyError, match=f"2 processes cannot share device {device}; use"):
        multiply(2, device)


def test_the_devices_of_all_processes_are_taken_before_torchrun_starts(monkeypatch):
    done = []
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(ranks, "take_for_ranks", lambda device, processes: done.append((device, processes)))
    monkeypatch.setattr(os, "execv", lambda path, words: done.append(words[words.index("--nproc-per-node") + 1]))
    multiply(2, "cuda")
    assert done == [("cuda", 2), "2"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    multiply(2, "cuda")
    assert len(done) == 2


TRAINING = """
import sys
from pathlib import Path
import torch
from tally.checkpoints import open_checkpoint, save
from tally.evaluate import Split, tensors
from tally.finetune import finetune
from tally.models.base import read_model
from tally.ranks import joined

torch.set_num_threads(1)
folder = Path(sys.argv[1])
file = open_checkpoint(folder / "inputs.safetensors")
train = Split(*(torch.from_numpy(file[name].copy()) for name in ("inputs", "labels")))
model = read_model(Path(sys.argv[2]))
with joined(torch.device("cpu")) as ranks:
    for pieces in (1, 3):
        losses = []
        theta = finetune(
            tensors(file, ("visual.",)), model, tensors(file, ("head",))["head"], train, steps=10, batch=46, lr=3e-3, warmup=2,
            weight_decay=0.1, clip_norm=1.0, epsilon=1e-3, seed=5, accumulate=pieces, ranks=ranks,
            report=lambda step, loss: losses.append(loss),
        )
        save(folder / f"{ranks.world}-{ranks.rank}-{pieces}.safetensors", theta, "finetuned", {"losses": losses})
"""


def test_two_processes_train_as_one_does(tmp_path, tiny_folder, tiny_weights, colours):
    head = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    inputs = tiny_weights | dict(zip(("inputs", "labels"), colours)) | {"head": head}
    save(tmp_path / "inputs.safetensors", inputs, "test")
    (tmp_path / "training.py").write_text(TRAINING)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command in ([sys.executable], torchrun):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
        subprocess.run([*command, tmp_path / "training.py", tmp_path, tiny_folder], check=True, env=environment)

    def ended(name):
        file = open_checkpoint(tmp_path / f"{name}.safetensors")
        return file, json.loads(file.metadata["losses"])

    one, curve = ended("1-0-1")
    assert curve[-1] < curve[0] / 2
    for pieces in (1, 3):
        (first, losses), (second, same) = ended(f"2-0-{pieces}"), ended(f"2-1-{pieces}")
        assert losses == same
        np.testing.assert_allclose(losses, curve, rtol=1e-5)
        for name in one.names:
            np.testing.assert_array_equal(first[name], second[name])
            np.testing.assert_allclose(first[name], one[name], atol=2e-5)


SLEEP = """
import os, time, torch
from tally.ranks import joined

with joined(torch.device("cpu")):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(300)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told on Linux only")
def test_ranks_end_with_torchrun(tmp_path):
    (tmp_path / "sleep.py").write_text(SLEEP)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    with subprocess.Popen([*torchrun, tmp_path / "sleep.py"], stdout=subprocess.PIPE, env=environment) as parent:
        ranks = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(alive(rank) for rank in ranks)
        parent.send_signal(signal.SIGKILL)
        until = time.monotonic() + 60
        while any(alive(rank) for rank in ranks) and time.monotonic() < until:
            time.sleep(0.1)
        left = [rank for rank in ranks if alive(rank)]
        for rank in left:
            os.kill(rank, signal.SIGKILL)
        assert not left


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
