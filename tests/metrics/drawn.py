"""Logits and labels that tests of measures share."""

from __future__ import annotations

import torch
from torch import Tensor


def draw(seed: int, scale: float = 3.0, n: int = 400, k: int = 6) -> tuple[Tensor, Tensor]:
    """Draw logits, and labels that have nothing to do with them."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.randint(k, (n,), generator=generator)


def calibrated(seed: int, n: int, k: int) -> tuple[Tensor, Tensor]:
    """Draw logits, and labels from their softmax: calibrated by construction."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
