"""Define type aliases for the arrays from which measures are computed."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "n k"]
"""Logits of n samples and k classes."""
Labels = Int[Tensor, " n"]
"""Class of each sample, 0 to k - 1."""
