"""Read CIFAR-10 and CIFAR-100 from their files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from distill.data.sets.at_hand import verify
from distill.data.sets.dataset import Split, Splits


def load_cifar10(folder: Path) -> Splits:
    """Read CIFAR-10 from its files."""
    return _read("CIFAR10", folder)


def load_cifar100(folder: Path) -> Splits:
    """Read CIFAR-100 from its files."""
    return _read("CIFAR100", folder)


def _read(class_name: str, folder: Path) -> Splits:
    """Read CIFAR-10 or CIFAR-100, named by its class in torchvision, from its files in a folder."""
    from torchvision import datasets

    source, root = getattr(datasets, class_name), folder.parent
    # The files are pickles: only files with torchvision's checksums are opened, since a pickle can hold code.
    for file, md5 in [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]:
        verify(root / source.base_folder / file, md5)  # torchvision opens the file at this path
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
