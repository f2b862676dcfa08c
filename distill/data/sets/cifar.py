"""Reads CIFAR-10 and CIFAR-100 from their files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from distill.data.sets.dataset import Split
from distill.data.sets.sources import verify


def read_cifar(name: str, root: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Read training and test split, and the class names, of cifar10 or cifar100."""
    from torchvision import datasets

    source = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    # The files are pickles: only those with torchvision's checksums are opened, since a pickle can hold code.
    for file, md5 in [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]:
        verify(root / source.base_folder / file, md5)
    with warnings.catch_warnings():
        # numpy deprecates how these pickles, written by an old numpy, spell a dtype.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        parts = [source(str(root), train=train) for train in (True, False)]
    train, test = (
        Split(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(part.targets, dtype=torch.int64),
        )
        for part in parts
    )
    return train, test, tuple(parts[0].classes)
