"""How large a network is, and what its head reads."""

from __future__ import annotations

import torch
from torch import nn


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def read_by_head(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The input of the network's layer `head`."""
    read: list[torch.Tensor] = []
    hook = model.get_submodule("head").register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model(x)
    hook.remove()
    return read[0]
