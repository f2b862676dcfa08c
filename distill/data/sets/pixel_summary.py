"""Compute the mean and standard deviation of the pixels of a data set, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from distill.data.sets.dataset import Images, Split

_ROWS_PER_COUNT, _BYTES_PER_COUNT = 4096, 16 << 20
_TOKENS_MEAN, _TOKENS_STD = 0.0, 1 / 255
"""Mean and deviation of tokens, with which `normaliser.Normaliser` returns every byte as its own number."""


class Summary(NamedTuple):
    """Hold what is computed from all images of a data set."""

    mean: tuple[float, ...]
    """Mean of each channel of the training split."""
    std: tuple[float, ...]
    fingerprint: str
    """sha256 over images, labels and class names."""


def summarise(train: Split, held_out: Split, test: Split, classes: tuple[str, ...]) -> Summary:
    """Compute mean and standard deviation of the training split, and the fingerprint of all three splits."""
    mean, std = mean_and_deviation(train)
    digest = hashlib.sha256(json.dumps(classes).encode())
    for split in (train, held_out, test):
        assert isinstance(split.images, Tensor), "streamed images have another fingerprint"
        digest.update(json.dumps(tuple(split.images.shape)).encode())
        digest.update(split.images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().data)
    return Summary(tuple(mean.tolist()), tuple(std.tolist()), digest.hexdigest())


def mean_and_deviation(
    split: Split, done: Callable[[int], object] = lambda _: None
) -> tuple[Float64[Tensor, "c"], Float64[Tensor, "c"]]:
    """Compute mean and standard deviation per channel; for tokens, return values that leave every byte as it is."""
    if split.labels.ndim > 1:
        channel = torch.ones(split.images.shape[1], dtype=torch.float64)
        return channel * _TOKENS_MEAN, channel * _TOKENS_STD
    shares = _histogram(split.images, done)
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (shares * values).sum(1)
    std = (shares * (values - mean[:, None]) ** 2).sum(1).sqrt()
    return mean, torch.where(std > 0, std, 1.0)


def _histogram(images: Images, done: Callable[[int], object]) -> Float64[Tensor, "c 256"]:
    """Count each byte in each channel, from which mean and deviation follow exactly."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    rows = max(1, min(_ROWS_PER_COUNT, _BYTES_PER_COUNT // max(1, images.shape[1:].numel())))
    for block in images.split(rows):
        for channel, total in enumerate(counts):
            total += torch.bincount(block[:, channel].flatten(), minlength=256)
        done(len(block))
    return counts
