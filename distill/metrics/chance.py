"""Whether a network learned anything at all."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.metrics.accuracy import accuracy


def at_chance(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> str | None:
    """Why a network counts as diverged, or None.

    It does when its logits are not finite, or when it is no better than the most frequent class, by three standard
    errors.
    """
    if not torch.isfinite(logits).all():
        return "logits are not finite"
    chance = float(labels.bincount().max()) / len(labels)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / len(labels))
    reached = accuracy(logits, labels)
    return f"accuracy at chance ({reached:.3f})" if reached <= bound else None
