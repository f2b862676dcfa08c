"""Compute 95 % intervals of shares over samples."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

NORMAL = 1.959963984540054
"""Number of standard deviations around the mean that hold 95 % of a normal distribution."""


def wilson(
    share: Float[Tensor, "..."], count: Float[Tensor, "..."] | Int[Tensor, "..."]
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Return both ends of the interval of each share of `count` samples (Wilson 1927); 0 and 1 without a sample."""
    weight = NORMAL**2 / count.double().clamp(min=1)
    middle = (share + weight / 2) / (1 + weight)
    half = (share * (1 - share) * weight + weight.square() / 4).sqrt() / (1 + weight)
    low, high = (middle - half).clamp(min=0), (middle + half).clamp(max=1)
    return low.where(count > 0, 0.0), high.where(count > 0, 1.0)
