"""Read the digits data set of scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from distill.data.sets.dataset import Split, Splits
from distill.data.sets.splits import stratified_split

_TEST_SHARE = 0.2


def load_digits(_: Path) -> Splits:
    """Read the digits of scikit-learn, with pixels scaled to 0..255."""
    from sklearn import datasets

    pixels, target = datasets.load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(pixels, np.int64) * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(np.asarray(target, np.int64))
    train, test = stratified_split(labels, _TEST_SHARE, seed=0)
    both = Split(images, labels)
    return both.rows(train), both.rows(test), tuple("0123456789")
