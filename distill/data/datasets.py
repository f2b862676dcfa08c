"""Data sets by name, as uint8 tensors with a stratified held-out split and a fingerprint."""

from __future__ import annotations

import hashlib
import json
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from distill import trust
from distill.config import DataConfig
from distill.data import translation
from distill.data.folder import load_folder
from distill.data.idx import damaged, read_idx
from distill.data.noise import noisy_labels
from distill.data.sources import fetch, find, verify
from distill.data.splits import stratified_split
from distill.data.tokens import IDENTITY, IGNORED
from distill.errors import UserError
from distill.files import write_json
from distill.plugins import bind, resolve
from distill.reading import read_json

_DIGITS_TEST_SHARE = 0.2
_ROWS_PER_COUNT = 4096


@dataclass(frozen=True)
class Split:
    """Images and labels, row by row."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"] | Int64[Tensor, "n t"]
    """Classes; or one per position, `tokens.IGNORED` where the position does not count."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)


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
        """Of a sample's labels: empty for one label, (T,) for a label per position."""
        return tuple(self.train.labels.shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has samples."""
        return len(self.classes)


@dataclass(frozen=True)
class _Request:
    """What identifies a load within a process; whether it shows progress does not."""

    config: str
    root: Path
    progress: bool = field(compare=False)


def load(config: DataConfig, root: Path, progress: bool = True) -> Dataset:
    """The data set that a config names; loaded once per process.

    Args:
        config: name, arguments and split.
        root: data root, in torchvision's layout; missing files are fetched into it.
        progress: show bars for downloads and decoding.

    Raises:
        UserError: the name or an argument is unknown, or the files are missing or damaged.
    """
    clean = config.replace(label_noise=0.0, noise="symmetric", noise_seed=0)
    dataset = _load(_Request(clean.model_dump_json(), root.expanduser().resolve(), progress))
    return _noisy(dataset, config) if config.label_noise else dataset


def _noisy(dataset: Dataset, config: DataConfig) -> Dataset:
    """The same with wrong labels among those of the training and the held-out split."""
    if dataset.label_shape:
        expected = f"0 for {dataset.name}, whose samples have a label per position"
        raise UserError("data.label_noise", config.label_noise, expected, "Drop --data.label-noise.")
    if dataset.num_classes < 2:
        raise UserError("data.label_noise", config.label_noise, "0 with one class", "Drop --data.label-noise.")

    def wrong(split: Split, index: Tensor, counter: int) -> Split:
        labels = noisy_labels(
            split.labels, index, config.label_noise, config.noise, dataset.num_classes, config.noise_seed, counter
        )
        return Split(split.images, labels)

    train = wrong(dataset.train, dataset.positions, 0)
    held_out = wrong(dataset.held_out, torch.arange(len(dataset.held_out)), 1)
    digest = hashlib.sha256(dataset.fingerprint.encode())
    for split in (train, held_out):
        digest.update(split.labels.numpy().data)
    return replace(dataset, train=train, held_out=held_out, fingerprint=digest.hexdigest())


@lru_cache(maxsize=4)
def _load(request: _Request) -> Dataset:
    with trust.reading():  # who made the config named its plug-in, or did not
        config = DataConfig.model_validate_json(request.config)
    kind, _, path = config.name.partition(":")
    if kind == "imagefolder" and path:
        return _image_folder(config, Path(path).expanduser().resolve(), request)
    if path:
        train, test, classes = _plugin(config)
    else:
        if config.kwargs:
            raise UserError("data.kwargs", config.kwargs, f"none for {config.name}", "Drop --data.kwargs.")
        train, test, classes = _by_name(config.name, request.root, request.progress)
    kept, held = stratified_split(train.labels, config.held_out, config.split_seed)
    kept = kept[_limited(train.labels[kept], config)]
    held_out = Split(train.images[held], train.labels[held])
    train = Split(train.images[kept], train.labels[kept])
    summary = _summary((train, held_out, test), classes)
    return Dataset(config.name, train, held_out, test, classes, *summary, positions=kept)


def _limited(labels: Int64[Tensor, "n"], config: DataConfig) -> Int64[Tensor, "m"]:
    """Rows of the training split that `limit` leaves, in order."""
    if config.limit is not None and config.limit > len(labels):
        way_out = "Lower --data.limit, or drop it."
        raise UserError("data.limit", config.limit, f"at most the {len(labels)} training images", way_out)
    if config.limit is None or config.limit == len(labels):
        return torch.arange(len(labels))
    _, drawn = stratified_split(labels, config.limit / len(labels), config.split_seed)
    if not len(drawn):
        way_out = "Raise --data.limit."
        raise UserError("data.limit", config.limit, "enough for an image of one class at least", way_out)
    return drawn


def _by_name(name: str, root: Path, progress: bool) -> tuple[Split, Split, tuple[str, ...]]:
    if name == "digits":
        return _digits()
    if name == "translation":
        return _translation()
    folder = fetch(name, root, progress)
    return _cifar(name, root) if name.startswith("cifar") else _mnist(name, folder)


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(pixels, np.int64) * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(np.asarray(target, np.int64))
    train, test = stratified_split(labels, _DIGITS_TEST_SHARE, seed=0)
    return Split(images[train], labels[train]), Split(images[test], labels[test]), tuple("0123456789")


def _translation() -> tuple[Split, Split, tuple[str, ...]]:
    train, test = translation.generate()
    return Split(*train), Split(*test), translation.TARGET


def _mnist(name: str, folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
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


def _cifar(name: str, root: Path) -> tuple[Split, Split, tuple[str, ...]]:
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


def _image_folder(config: DataConfig, path: Path, request: _Request) -> Dataset:
    size = config.kwargs.get("size")
    is_size = size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)
    if set(config.kwargs) - {"size"} or not is_size:
        way_out = "Write --data.kwargs '{\"size\": 64}', or drop it."
        raise UserError("data.kwargs", config.kwargs, "at most a size in pixels", way_out)
    decoded = load_folder(path, size, config.held_out, config.split_seed, request.root, request.progress)
    images = decoded.images.split(list(decoded.sizes))
    labels = decoded.labels.split(list(decoded.sizes))
    train, held_out, test = (Split(*rows) for rows in zip(images, labels, strict=True))
    positions = decoded.positions[: len(train)]
    summary = decoded.folder / "summary.json"
    if config.limit is not None:
        drawn = _limited(train.labels, config)
        train, positions = Split(train.images[drawn], train.labels[drawn]), positions[drawn]
        mean, std, fingerprint = _summary((train, held_out, test), decoded.classes)
    elif summary.is_file():
        mean, std, fingerprint = _read_summary(summary, len(images[0][0]))
    else:
        mean, std, fingerprint = _summary((train, held_out, test), decoded.classes)
        write_json(summary, [mean, std, fingerprint])
    return Dataset(
        config.name, train, held_out, test, decoded.classes, tuple(mean), tuple(std), fingerprint, positions
    )


def _read_summary(path: Path, channels: int) -> tuple[list[float], list[float], str]:
    """What `_summary` found of a decoded copy."""
    found = read_json(path)
    with suppress(TypeError, ValueError, OverflowError):
        mean, std, fingerprint = found
        numbers = [float(number) for number in (*mean, *std)]
        if len(mean) == len(std) == channels and min(numbers[channels:]) > 0 and len(str(fingerprint)) == 64:
            return numbers[:channels], numbers[channels:], str(fingerprint)
    expected = f"mean and deviation of {channels} channels, and a fingerprint"
    raise UserError(str(path), "changed", expected, "Delete it: it is made again.")


def _plugin(config: DataConfig) -> tuple[Split, Split, tuple[str, ...]]:
    """Call the user's function and check what it returns."""
    returned = bind(resolve(config.name, "data.name"), "data.kwargs", **config.kwargs)()
    form = "(train_images, train_labels, test_images, test_labels, class_names)"
    if not isinstance(returned, tuple | list) or len(returned) != 5:
        found = f"{len(returned)} values" if isinstance(returned, tuple | list) else _describe(returned)
        raise UserError("data.name", config.name, f"a function returning {form}", f"It returned {found}.")
    if not isinstance(returned[4], tuple | list) or not returned[4]:
        way_out = f"The function returned {_describe(returned[4])}."
        raise UserError("data.name", config.name, "class_names as a tuple of names", way_out)
    classes = tuple(str(name) for name in returned[4])
    train = _checked(config.name, "train", returned[0], returned[1], len(classes))
    test = _checked(config.name, "test", returned[2], returned[3], len(classes))
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = f"train {tuple(train.images.shape[1:])}, test {tuple(test.images.shape[1:])}"
        raise UserError("data.name", config.name, "train and test images of one shape", f"They are {shapes}.")
    if train.labels.shape[1:] != test.labels.shape[1:]:
        shapes = f"train {list(train.labels.shape)}, test {list(test.labels.shape)}"
        raise UserError("data.name", config.name, "train and test labels of one shape", f"They are {shapes}.")
    return train, test, classes


def _checked(name: str, part: str, images: Any, labels: Any, num_classes: int) -> Split:
    def refuse(what: str, expected: str, found: object) -> UserError:
        return UserError("data.name", name, f"{part}_{what} as {expected}", f"The function returned {found}.")

    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0:
        raise refuse("images", "a uint8 tensor [n, channels, height, width], n > 0", _describe(images))
    is_integer = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.dtype == torch.bool)
    if not is_integer or labels.ndim not in (1, 2) or len(labels) != len(images) or not labels.numel():
        expected = f"an integer tensor [{len(images)}], or [{len(images)}, positions]"
        raise refuse("labels", expected, _describe(labels))
    counted = labels
    if labels.ndim == 2:
        counts = labels != IGNORED
        if not bool(counts.any(1).all()):
            expected = f"a label in each row that is not {IGNORED}"
            raise refuse("labels", expected, f"only {IGNORED} in row {int(counts.any(1).int().argmin())}")
        counted = labels[counts]
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= num_classes:
        expected = f"numbers 0 to {num_classes - 1}, for {num_classes} class names"
        expected += f", or {IGNORED}" if labels.ndim == 2 else ""
        raise refuse("labels", expected, f"{low} to {high}")
    return Split(images.cpu().contiguous(), labels.cpu().long())


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"a {type(value).__name__}"


def _summary(
    splits: tuple[Split, Split, Split], classes: tuple[str, ...]
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean and standard deviation per channel of the first split, and the fingerprint of all."""
    mean, std = _scale(splits[0])
    digest = hashlib.sha256(json.dumps(classes).encode())
    for split in splits:
        digest.update(json.dumps(tuple(split.images.shape)).encode())
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return tuple(mean.tolist()), tuple(std.tolist()), digest.hexdigest()


def _scale(split: Split) -> tuple[Float64[Tensor, "c"], Float64[Tensor, "c"]]:
    """Mean and standard deviation per channel; those that change nothing for tokens."""
    if split.labels.ndim > 1:
        mean, std = torch.tensor(IDENTITY, dtype=torch.float64)
        channels = split.images.shape[1]
        return mean.expand(channels), std.expand(channels)
    shares = _histogram(split.images)
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (shares * values).sum(1)
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    return mean, torch.where(std > 0, std, 1.0)


def _histogram(images: UInt8[Tensor, "n c h w"]) -> Float64[Tensor, "c 256"]:
    """How often each byte occurs in each channel: exact, and all that mean and deviation need."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for block in images.split(_ROWS_PER_COUNT):
        for channel, total in enumerate(counts):
            total += torch.bincount(block[:, channel].flatten(), minlength=256)
    return counts
