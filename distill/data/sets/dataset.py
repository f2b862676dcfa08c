"""A data set in memory: training, held-out and test split, and what a record keeps of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.config import IGNORED


@dataclass(frozen=True)
class Split:
    """Images and labels, row by row."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"] | Int64[Tensor, "n t"]
    """Classes; or one per position, `config.IGNORED` where the position does not count."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def rows(self, index: Int64[Tensor, "m"]) -> Split:
        """Copy these rows."""
        return Split(self.images[index], self.labels[index])


Published = tuple[Split, Split, tuple[str, ...]]
"""Training split, test split and class names, as they were published."""


@dataclass(frozen=True)
class Dataset:
    """A data set in memory (or mapped into it): training, held-out and test split."""

    name: str
    train: Split
    held_out: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of the training split, in 0..1 units; 0 for tokens."""
    std: tuple[float, ...]
    """Likewise; 1 for a channel that is constant, and 1/255 for tokens, which leaves them as they are."""
    fingerprint: str
    """sha256 over images, labels and class names."""
    positions: Int64[Tensor, "n"]
    """Of each training row in the published training set, before the held-out rows were taken out."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of a sample's labels: empty for one label, (T,) for a label per position."""
        return tuple(self.train.labels.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has samples."""
        return len(self.classes)

    def identity(self) -> dict[str, Any]:
        """Gather what tells this data set apart, as a record keeps it."""
        labels = self.train.labels[self.train.labels != IGNORED]
        return {
            "name": self.name,
            "classes": list(self.classes),
            "shape": list(self.shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "fingerprint": self.fingerprint,
            "sizes": {name: len(getattr(self, name)) for name in ("train", "held_out", "test")},
            "priors": (labels.bincount(minlength=self.num_classes) / len(labels)).tolist(),
        }
