import os
import signal

import numpy as np
import pytest
import torch
from tally import snapshots
from tally.checkpoints import save
from tally.errors import TallyError
from tally.finetune import Snapshot
from tally.snapshots import Keeper, read, write

TRAINING = {"task": "mnist", "seed": 0, "recipe": {"lr": 1e-3, "steps": 9}, "data_sha256": "ab"}


def state(step: int) -> Snapshot:
    rng = np.random.default_rng(step)
    streams = {"order": rng.bit_generator.state, "shifts": np.random.default_rng(7).bit_generator.state}
    tensors = {
        "theta/w": torch.randn(3, 5, generator=torch.Generator().manual_seed(step)),
        "step/w": torch.tensor(float(step)),
        "rows": torch.arange(step),
    }
    return Snapshot(step, tensors, streams)


def same(a: Snapshot, b: Snapshot) -> bool:
    tensors = a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)
    return tensors and a.step == b.step and a.streams == b.streams


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path):
    for step in (0, 5):
        found = read(write(tmp_path / "new", state(step), TRAINING), TRAINING)
        assert same(found, state(step))
        np.random.default_rng().bit_generator.state = found.streams["order"]  # 128-bit numbers are whole


@pytest.mark.parametrize(
    ("change", "word"),
    [({"task": "cars"}, "task"), ({"recipe": {"lr": 2e-3, "steps": 9}}, "recipe"), ({"seed": 1}, "seed"), ({"more": 1}, "more")],
)  # fmt: skip
def test_another_training_is_named(tmp_path, change, word):
    path = write(tmp_path, state(3), TRAINING | change)
    with pytest.raises(TallyError, match=f"{path.name} is of another training, with other {word}$"):
        read(path, TRAINING)


def test_no_changed_byte_and_no_cut_is_trusted(tmp_path):
    path = write(tmp_path, state(3), TRAINING)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(content), 150), len(content) - 1]:
        broken = bytearray(content)
        broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            found = read(path, TRAINING)
        except TallyError:
            continue
        assert same(found, state(3)), place  # padding of the header
    for size in (0, 7, 100, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(TallyError):
            read(path, TRAINING)
    save(path, {"w": np.zeros(3)}, "model")
    with pytest.raises(TallyError, match="no snapshot"):
        read(path, TRAINING)


def test_the_newest_whole_one_of_this_training_is_taken_and_the_others_are_named(tmp_path, capsys):
    for step in (10, 20, 30):
        write(tmp_path, state(step), TRAINING)
    write(tmp_path, state(40), TRAINING | {"seed": 1})
    os.truncate(tmp_path / "step-00000030.safetensors", 300)
    assert same(Keeper(tmp_path, TRAINING, 1).newest(), state(20))
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    assert "step-00000040.safetensors is of another training, with other seed; skipped" in notes[0]
    assert "step-00000030.safetensors is truncated" in notes[1]
    assert "goes on after step 20" in notes[2]


def test_nothing_to_go_on_from(tmp_path, capsys):
    assert Keeper(tmp_path / "none", TRAINING, 1).newest() is None
    assert capsys.readouterr().err == ""


def test_two_are_kept_and_foreign_ones_go_when_there_is_one_of_our_own(tmp_path):
    write(tmp_path, state(900), TRAINING | {"task": "cars"})
    write(tmp_path, state(10), TRAINING)
    (tmp_path / ".step-00000011.safetensors.0a1b.tmp").write_bytes(b"half")
    keeper = Keeper(tmp_path, TRAINING, 0)
    assert keeper.newest().step == 10
    assert len(names(tmp_path)) == 3
    for step in (11, 12, 13):
        keeper.keep(lambda step=step: state(step))
        assert names(tmp_path) == [f"step-{s:08}.safetensors" for s in (step - 1, step)]
    keeper.done()
    assert not tmp_path.exists()


def test_a_snapshot_is_due_after_some_minutes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(snapshots.time, "monotonic", lambda: now[0])
    keeper = Keeper(tmp_path, TRAINING, 10)
    for step in range(1, 61):  # half a minute a step
        now[0] += 30
        keeper.keep(lambda step=step: state(step))
    assert names(tmp_path) == ["step-00000040.safetensors", "step-00000060.safetensors"]


def test_signals(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    keeper = Keeper(tmp_path, TRAINING, 10)
    with pytest.raises(SystemExit) as stopped, keeper:
        keeper.keep(lambda: state(1))
        assert names(tmp_path) == []
        os.kill(os.getpid(), signal.SIGUSR1)
        keeper.keep(lambda: state(2))
        keeper.keep(lambda: state(3))
        assert names(tmp_path) == ["step-00000002.safetensors"]
        os.kill(os.getpid(), signal.SIGTERM)
        keeper.keep(lambda: state(4))
    assert stopped.value.code == 143
    assert names(tmp_path) == ["step-00000002.safetensors", "step-00000004.safetensors"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_costs_the_snapshot_and_not_the_training(tmp_path, monkeypatch, capsys):
    keeper = Keeper(tmp_path, TRAINING, 0)
    keeper.keep(lambda: state(1))

    def full(*_):
        raise TallyError("disk full while writing x")

    monkeypatch.setattr(snapshots, "save", full)
    keeper.keep(lambda: state(2))
    assert "disk full while writing x; the training goes on" in capsys.readouterr().err
    assert same(Keeper(tmp_path, TRAINING, 0).newest(), state(1))
