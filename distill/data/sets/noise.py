"""Replace labels by wrong ones at random, as a pure function of (seed, counter, sample)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.config import DataConfig
from distill.data.hashing import Stream, counter_hash, shift_right
from distill.data.sets.dataset import Dataset, Split
from distill.errors import UserError

_BITS = 32


def with_wrong_labels(dataset: Dataset, config: DataConfig) -> Dataset:
    """Replace labels of the training and the held-out split by wrong ones; test labels stay.

    Raises:
        UserError: the data set has a label per position, or only one class.
    """
    if dataset.label_shape:
        expected = f"0 for {dataset.name}, whose samples have a label per position"
        raise UserError("data.label_noise", config.label_noise, expected, "Drop `data.label_noise`.")
    if dataset.num_classes < 2:
        raise UserError("data.label_noise", config.label_noise, "0 with one class", "Drop `data.label_noise`.")

    def wrong(split: Split, index: Int64[Tensor, " n"], counter: int) -> Split:
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


def noisy_labels(
    labels: Int64[Tensor, " n"],
    index: Int64[Tensor, " n"],
    rate: float,
    kind: Literal["symmetric", "pair"],
    num_classes: int,
    seed: int,
    counter: int = 0,
) -> Int64[Tensor, " n"]:
    """Replace each label, with probability `rate`, by the label of another class.

    "symmetric" takes any other class, all with equal probability (Patrini et al. 2017; Han et al. 2018,
    "Co-teaching"). "pair" takes the next class, and the first class after the last (Han et al. 2018). A replaced
    label is always wrong. Where a paper draws the new label among all K classes, the right one included (Lukasik
    et al. 2020), a rate ρ makes only ρ (K - 1) / K of the labels wrong; give this share as the rate here.

    A higher rate replaces all labels that a lower rate replaces, and by equal classes.

    The chance of a sample is drawn from its index; the counter tells apart splits whose indices overlap.
    """
    bits = counter_hash(Stream.NOISE, seed, counter, index)
    replaced = shift_right(bits, 64 - _BITS) < round(rate * (1 << _BITS))
    low = bits & ((1 << _BITS) - 1)
    step = 1 + ((low * (num_classes - 1)) >> _BITS) if kind == "symmetric" else torch.ones_like(labels)
    return torch.where(replaced, (labels + step) % num_classes, labels)
