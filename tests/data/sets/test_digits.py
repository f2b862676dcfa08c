"""The digits that scikit-learn ships."""

import pytest

from distill.config import DataConfig
from distill.data.sets.load import load

pytestmark = pytest.mark.usefixtures("fresh")


def test_digits(tmp_path):
    data = load(DataConfig(), tmp_path)
    assert data.shape == (1, 8, 8)
    assert data.num_classes == 10
    assert len(data.train) + len(data.held_out) + len(data.test) == 1797
    assert abs(len(data.test) - 0.2 * 1797) <= 5
    assert int(data.train.images.max()) == 255
    assert not list(tmp_path.iterdir())
