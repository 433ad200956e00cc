import numpy as np
import pytest
from tally.data.generated import FEW
from tally.data.rehearsal import ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_few_pictures_of_every_class_at_any_size(row):
    splits = row.source(None, 48, 0)
    for split, n in FEW.items():
        images, labels = splits[split]
        assert images.shape == (n, 3, 48, 48)
        assert (np.bincount(labels, minlength=len(row.classes)) == n / len(row.classes)).all()
