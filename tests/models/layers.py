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


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that a checkpoint of the network holds, without the counters of its norms."""
    stored = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    norms = {name for name in stored if name.endswith(".running_mean")}
    counters = {name.replace("running_mean", "num_batches_tracked") for name in norms}
    assert all(stored.pop(name) == () for name in counters)
    return stored


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a batch norm has in a checkpoint, without its counter."""
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
