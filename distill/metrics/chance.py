"""Tell whether a network learned anything at all."""

from __future__ import annotations

import math

import torch

from distill.metrics.accuracy import accuracy
from distill.metrics.arrays import Labels, Logits


def at_chance(logits: Logits, labels: Labels) -> str | None:
    """Return why a network counts as diverged, or None if it does not.

    A network counts as diverged when a logit is not finite, or when its accuracy is not three standard errors above
    the share of the most frequent class.
    """
    if not torch.isfinite(logits).all():
        return "logits are not finite"
    chance = float(labels.bincount().max()) / len(labels)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / len(labels))
    reached = accuracy(logits, labels)
    return f"accuracy at chance ({reached:.3f})" if reached <= bound else None
