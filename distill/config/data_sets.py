"""List the built-in data sets, with what is known of each before its images are downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class Shape:
    """Hold the number of images of a data set, their size and the number of classes."""

    training: int
    test: int
    image: tuple[int, int, int]
    """Channels, height and width of an image."""
    classes: int

    def __str__(self) -> str:
        channels, height, width = self.image
        images = f"{self.training:,} training and {self.test:,} test images"
        return f"{images} of {channels} x {height} x {width}, {self.classes} classes"


@dataclass(frozen=True)
class Origin:
    """Say where the files of a data set lie, and where missing files are fetched from."""

    folder: str
    """Folder of the files, under the data root."""
    files: tuple[str, ...]
    """Names of the files; each may be gzipped, with the suffix .gz."""
    downloads: tuple[tuple[str, str], ...]
    """Name and md5 of each download on the mirrors: the files, or one .tar.gz that holds the folder."""
    mirrors: tuple[str, ...]
    """Addresses to which the name of a download is appended."""
    debian_package: str | None = None
    """Debian package that also contains the files."""


@dataclass(frozen=True)
class TorchvisionOrigin:
    """Name a data set whose file names, checksums and mirrors torchvision knows."""

    class_name: str
    """Name of the class in `torchvision.datasets`."""
    folder: str
    """Folder, under the data root, in which that class looks for the files."""
    debian_package: str | None = None


@dataclass(frozen=True)
class DataSet:
    """Describe a built-in data set (no image folder or plug-in): its name, shape, loader and origin."""

    name: str
    shape: Shape
    # A reference and not the function, so that reading a config does not import torch.
    load: str
    """Reference `package.module:function`; the function maps the folder of the files to a
    `distill.data.sets.dataset.Splits`."""
    origin: Origin | TorchvisionOrigin | None = None
    """Where the files come from; None if there are none: the function is then given the data root."""
    samples: str = "images"
    """What the samples are, in the plural."""

    def __str__(self) -> str:
        return self.name if self.samples == "images" else f"{self.name} ({self.samples})"


_MNIST = Shape(60_000, 10_000, (1, 28, 28), 10)

DATA_SETS: dict[str, DataSet] = {
    data_set.name: data_set
    for data_set in (
        DataSet("digits", Shape(1438, 359, (1, 8, 8), 10), "distill.data.sets.digits:load_digits"),
        DataSet(
            "fashion-mnist",
            _MNIST,
            "distill.data.sets.mnist:load_fashion_mnist",
            TorchvisionOrigin("FashionMNIST", "FashionMNIST/raw", debian_package="dataset-fashion-mnist"),
        ),
        DataSet("mnist", _MNIST, "distill.data.sets.mnist:load_mnist", TorchvisionOrigin("MNIST", "MNIST/raw")),
        DataSet(
            "cifar10",
            Shape(50_000, 10_000, (3, 32, 32), 10),
            "distill.data.sets.cifar:load_cifar10",
            TorchvisionOrigin("CIFAR10", "cifar-10-batches-py"),
        ),
        DataSet(
            "cifar100",
            Shape(50_000, 10_000, (3, 32, 32), 100),
            "distill.data.sets.cifar:load_cifar100",
            TorchvisionOrigin("CIFAR100", "cifar-100-python"),
        ),
        DataSet(
            "translation",
            Shape(4000, 1200, (1, 2, 13), 190),
            "distill.data.sets.translation:load_translation",
            samples="sentences",
        ),
    )
}
"""All data sets that have a name: name → data set, in the order in which they are listed.

To add a data set, add an entry here and write the function that it names.
"""

FOLDERS = ("imagefolder", "shards", "hfdataset")
"""Kinds of data sets that are named by a path: image files, tar files of images, a data set of Hugging Face."""
EXPECTED = ", ".join(
    [*map(str, DATA_SETS.values()), *(f"{kind}:PATH" for kind in FOLDERS), "package.module:function"]
)
"""What the name of a data set may be, in words."""

_ARCHIVE = re.compile(r"(\.tar)?\.(tar|tgz|gz|xz|bz2|zip)$")


def short_name(name: str) -> str:
    """Return the name of a data set for titles and tables: an image folder or archive is called by its own name."""
    kind, _, path = name.partition(":")
    return _ARCHIVE.sub("", PurePath(path).name).lstrip(".") or kind if kind in FOLDERS else name
