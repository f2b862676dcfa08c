"""Draw the samples of an epoch so that each class comes equally often."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from distill.data.hashing import Stream, counter_hash, shift_right
from distill.data.views.crops import permutation


@dataclass(frozen=True)
class BalancedDraw:
    """Hold the samples of each class, from which epochs are drawn with replacement."""

    rows: Int64[Tensor, "m"]
    """Positions of all samples, sorted by class."""
    first: Int64[Tensor, "c"]
    """Where each class that has samples begins in `rows`."""
    count: Int64[Tensor, "c"]
    """Number of samples of each of these classes."""

    @classmethod
    def of(cls, labels: Int64[Tensor, "m"]) -> BalancedDraw:
        """Sort samples by class; a class without samples is none."""
        _, count = labels.unique(return_counts=True)
        return cls(labels.argsort(stable=True), count.cumsum(0) - count, count)

    def order(self, seed: int, epoch: int) -> Int64[Tensor, "m"]:
        """Return the samples of an epoch, as a pure function of seed and epoch, equal on every device.

        An epoch stays as long as it was. Where the classes do not divide it, some come once more than the others,
        which are others in each epoch.
        """
        device, classes = self.rows.device, len(self.count)
        slot = permutation(seed, epoch, len(self.rows), device)
        by_chance = counter_hash(Stream.BALANCE, seed, epoch, torch.arange(classes, device=device))
        drawn = by_chance.argsort(stable=True)[slot % classes]
        # The upper 32 bits of a hash are a fraction; the product with a count of less than 2³¹ fits an int64.
        fraction = shift_right(counter_hash(Stream.BALANCE, seed, epoch, classes + slot), 32)
        return self.rows[self.first[drawn] + (fraction * self.count[drawn] >> 32)]
