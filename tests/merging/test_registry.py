import pytest
from tally.errors import TallyError
from tally.merging import METHODS, method


def test_the_table_is_whole():
    for name, row in METHODS.items():
        assert row.merged in METHODS
        assert row.masks in (None, "task-arithmetic", "ties")
        assert row.alpha in ("search", "average", "one")
        assert row.has_k == ("consensus" in name)
        assert row.per_task == name.startswith(("tall", "magnitude"))


def test_a_method_that_is_not_there():
    with pytest.raises(TallyError, match="unknown method 'tise'; known are weight-average, task-arithmetic"):
        method("tise")
