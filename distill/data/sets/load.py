"""Loads a data set by its name: uint8 tensors, a stratified held-out split, a fingerprint."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from distill.config import DataConfig
from distill.data.sets import translation
from distill.data.sets.cifar import read_cifar
from distill.data.sets.dataset import Dataset, Split
from distill.data.sets.digits import read_digits
from distill.data.sets.folder import load_folder
from distill.data.sets.mnist import read_mnist
from distill.data.sets.noise import noisy_labels
from distill.data.sets.plugin import call_plugin
from distill.data.sets.sources import fetch
from distill.data.sets.splits import stratified_split
from distill.data.tokens import IDENTITY
from distill.errors import UserError
from distill.system import trust
from distill.system.files import write_json
from distill.system.reading import read_json

_ROWS_PER_COUNT = 4096


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
        train, test, classes = call_plugin(config)
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
        return read_digits()
    if name == "translation":
        return _translation()
    folder = fetch(name, root, progress)
    return read_cifar(name, root) if name.startswith("cifar") else read_mnist(name, folder)


def _translation() -> tuple[Split, Split, tuple[str, ...]]:
    train, test = translation.generate()
    return Split(*train), Split(*test), translation.TARGET


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
