"""Lists the data sets that have a name, and says of each what can be known before its images are here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How many images a data set has, of which size and of how many classes."""

    training: int
    test: int
    image: tuple[int, int, int]
    """Channels, height and width."""
    classes: int

    def __str__(self) -> str:
        channels, height, width = self.image
        images = f"{self.training:,} training and {self.test:,} test images"
        return f"{images} of {channels} x {height} x {width}, {self.classes} classes"


@dataclass(frozen=True)
class Origin:
    """Where the files of a data set lie, and where they are fetched from when they are not there."""

    folder: str
    """Where the files lie, under the data root."""
    files: tuple[str, ...]
    """Names of the files; each may be gzipped, with the suffix .gz."""
    downloads: tuple[tuple[str, str], ...]
    """Name and md5 of what the mirrors serve: the files, or one .tar.gz that holds the folder."""
    mirrors: tuple[str, ...]
    """Addresses to which the name of a download is appended."""
    debian_package: str | None = None
    """Package that has the files too."""


@dataclass(frozen=True)
class TorchvisionOrigin:
    """Stands for an `Origin` whose file names, checksums and mirrors torchvision knows."""

    class_name: str
    """Class of `torchvision.datasets`."""
    folder: str
    """Where that class looks for the files, under the data root."""
    debian_package: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set that has a name of its own."""

    name: str
    shape: Shape
    load: str
    """`package.module:function` of the folder of its files → `distill.data.sets.dataset.Published`. A reference, so
    that whoever reads a config need not import torch."""
    origin: Origin | TorchvisionOrigin | None = None
    """None: it has no files of its own, and the function is given the data root."""
    samples: str = "images"
    """What is classified, where that is no image."""

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
"""Name → data set, in the order in which they are told. To add one: a line here, and the function that it names."""

EXPECTED = ", ".join([*map(str, DATA_SETS.values()), "imagefolder:PATH or package.module:function"])
"""What `--data.name` takes, in words."""
