"""Reads MNIST and Fashion-MNIST from their files."""

from __future__ import annotations

from pathlib import Path

from distill.data.sets.dataset import Split
from distill.data.sets.idx import damaged, read_idx
from distill.data.sets.sources import find


def read_mnist(name: str, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Read training and test split, and the class names, of mnist or fashion-mnist."""
    from torchvision import datasets

    classes = tuple((datasets.MNIST if name == "mnist" else datasets.FashionMNIST).classes)
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
