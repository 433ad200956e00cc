import os

import numpy as np
import pytest
from tally.errors import TallyError
from tally.scratch import scratch


def test_scratch_is_writable_and_leaves_nothing(tmp_path):
    with scratch(tmp_path / "new" / "x", 10, np.float32) as array:
        array[:] = range(10)
        assert array.dtype == np.float32
        assert array[:].sum() == 45
        assert os.listdir(tmp_path / "new") == []


def test_no_room(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = r"cannot write beside .*: No space left on device; free some space"
    with pytest.raises(TallyError, match=message), scratch(tmp_path / "x", 10, np.float32):
        pass
    assert os.listdir(tmp_path) == []
