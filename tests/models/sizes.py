"""How large a network is."""

from __future__ import annotations

from torch import nn


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
