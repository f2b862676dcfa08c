"""Read MNIST and Fashion-MNIST from their files."""

from __future__ import annotations

from pathlib import Path

from distill.data.sets.at_hand import damaged, find
from distill.data.sets.dataset import Split, Splits
from distill.data.sets.idx import read_idx


def load_mnist(folder: Path) -> Splits:
    """Read MNIST from its four files."""
    from torchvision.datasets import MNIST

    return _read(folder, tuple(MNIST.classes))


def load_fashion_mnist(folder: Path) -> Splits:
    """Read Fashion-MNIST from its four files."""
    from torchvision.datasets import FashionMNIST

    return _read(folder, tuple(FashionMNIST.classes))


def _read(folder: Path, classes: tuple[str, ...]) -> Splits:
    splits = []
    for part in ("train", "t10k"):
        image_file = find(folder, f"{part}-images-idx3-ubyte")
        label_file = find(folder, f"{part}-labels-idx1-ubyte")
        assert image_file is not None
        assert label_file is not None
        images, labels = read_idx(image_file), read_idx(label_file)
        if images.ndim != 3:
            raise damaged(image_file, f"images of two dimensions, not shape {tuple(images.shape)}")
        if labels.shape != images.shape[:1]:
            raise damaged(label_file, f"one label for each of the {len(images)} images")
        if len(labels) and int(labels.max()) >= len(classes):
            raise damaged(label_file, f"labels 0 to {len(classes) - 1}, not {int(labels.max())}")
        splits.append(Split(images[:, None], labels.long()))
    return splits[0], splits[1], classes
