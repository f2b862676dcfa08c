"""Reads scikit-learn's digits."""

from __future__ import annotations

import numpy as np
import torch

from distill.data.sets.dataset import Split
from distill.data.sets.splits import stratified_split

_TEST_SHARE = 0.2


def read_digits() -> tuple[Split, Split, tuple[str, ...]]:
    """Read training and test split, and the class names; pixels are scaled to 0..255."""
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(pixels, np.int64) * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(np.asarray(target, np.int64))
    train, test = stratified_split(labels, _TEST_SHARE, seed=0)
    return Split(images[train], labels[train]), Split(images[test], labels[test]), tuple("0123456789")
