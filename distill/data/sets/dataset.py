"""Hold a data set in memory: training, held-out and test split, and the facts that a record keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.config import IGNORED
from distill.data.sets.streams.images import StreamedImages, pixels_of
from distill.errors import UserError

Images = UInt8[Tensor, "n c h w"] | StreamedImages
"""Images of a split: in memory, or in files that are decoded when they are needed."""


@dataclass(frozen=True)
class Split:
    """Hold the images and labels of a split, row by row."""

    images: Images
    labels: Int64[Tensor, "n"] | Int64[Tensor, "n t"]
    """Class of each sample; or of each position, with `config.IGNORED` where a position does not count."""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def rows(self, index: Int64[Tensor, "m"]) -> Split:
        """Copy the rows with these indices; images that are streamed are not decoded yet."""
        return Split(self.images[index], self.labels[index])

    def pixels(self, index: Int64[Tensor, "m"]) -> UInt8[Tensor, "m c h w"]:
        """Return the pixels of the images with these indices."""
        return pixels_of(self.images, index)


Splits = tuple[Split, Split, tuple[str, ...]]
"""Training split, test split and class names, as they were published."""


@dataclass(frozen=True)
class Dataset:
    """Hold a data set in memory, or mapped into it: training, held-out and test split."""

    name: str
    train: Split
    held_out: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Mean of each channel of the training split, in 0..1 units; 0 for tokens."""
    std: tuple[float, ...]
    """Standard deviation of each channel of the training split, in 0..1 units.

    It is 1 for a constant channel, and 1/255 for tokens, which normalisation then leaves as they are.
    """
    fingerprint: str
    """sha256 over images, labels and class names."""
    positions: Int64[Tensor, "n"]
    """Position of each training row in the published training set, before the held-out rows were taken out."""
    held_out_apart: bool = False
    """Whether the held-out images were published apart, in `val/`, and are no part of the training set."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Return the shape of a sample's labels: () for one label, (T,) for a label per position."""
        return tuple(self.train.labels.shape[1:])

    @property
    def num_classes(self) -> int:
        """Return the number of classes, including classes without samples."""
        return len(self.classes)

    def normalised_as(self, data: Mapping[str, Any] | None) -> Dataset:
        """Return this data set with the mean and deviation of what a network takes, from its record's `data`.

        Raises:
            UserError: the network takes other channels.
        """
        if data is None:
            return self
        if len(data["mean"]) != self.shape[0]:
            expected = f"one that takes {self.shape[0]}, as the images of {self.name} have"
            way_out = "Begin with another network, or train on images that it takes; those of a folder have 3."
            raise UserError("init", f"a network that takes {len(data['mean'])} channels", expected, way_out)
        return replace(self, mean=tuple(data["mean"]), std=tuple(data["std"]))

    def identity(self) -> dict[str, Any]:
        """Return the facts that identify this data set, in the form of a record."""
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
