"""Files that a killed process leaves to the next."""

import fcntl
from multiprocessing import get_context

import numpy as np
import pytest
from tally.checkpoints import open_checkpoint
from tally.errors import TallyError
from tally.partial import resume

LAYOUT = {"pixels": ("U8", (5, 3)), "done": ("U8", (5,))}


def test_the_next_goes_on_where_one_failed(tmp_path):
    path = tmp_path / "sub" / "a.safetensors"
    with pytest.raises(KeyError), resume(path, LAYOUT, "data", {"task": "a"}) as writer:
        writer["pixels"][:2], writer["done"][:2] = 7, 1
        writer.flush()
        raise KeyError
    assert not path.exists()
    with resume(path, LAYOUT, "data", {"task": "a"}) as writer:
        assert writer["done"].tolist() == [1, 1, 0, 0, 0]
        writer["pixels"][2:], writer["done"][2:] = 9, 1
    file = open_checkpoint(path)
    assert file["pixels"].tolist() == [[7] * 3] * 2 + [[9] * 3] * 3
    assert file.metadata["task"] == "a"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("change", [{"metadata": {"task": "b"}}, {"layout": {"pixels": ("U8", (5, 3))}}])
def test_another_header_starts_anew(tmp_path, change):
    path, first = tmp_path / "a", {"layout": LAYOUT, "metadata": {"task": "a"}}
    with pytest.raises(KeyError), resume(path, kind="data", **first) as writer:
        writer["pixels"][:] = 7
        raise KeyError
    with resume(path, kind="data", **first | change) as writer:
        assert not writer["pixels"].any()
    assert open_checkpoint(path)["pixels"].tolist() == np.zeros((5, 3)).tolist()


def _hold(path, locked, over):
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        locked.set()
        over.wait(20)


def test_two_at_a_time(tmp_path):
    fork = get_context("fork")
    locked, over = fork.Event(), fork.Event()
    other = fork.Process(target=_hold, args=(tmp_path / "a.partial", locked, over))
    other.start()
    assert locked.wait(20)
    with (
        pytest.raises(TallyError, match="is being written by another process"),
        resume(tmp_path / "a", LAYOUT, "data", {}),
    ):
        pass
    over.set()
    other.join()
    with resume(tmp_path / "a", LAYOUT, "data", {}):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(TallyError, match="cannot write"), resume(tmp_path / "a" / "b", LAYOUT, "data", {}):
        pass
