"""Make networks without this package, as a foreign script does, and save them in the ways that people use."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

MEAN, STD = 0.31, 0.37
"""Normalisation of the foreign script."""


def normalised(images: Tensor, channels: int = 1) -> Tensor:
    """Prepare bytes as a foreign script does."""
    return ((images.float() / 255 - MEAN) / STD).expand(-1, channels, -1, -1)


def teach(net: nn.Module, head: nn.Linear, images: Tensor, labels: Tensor) -> nn.Module:
    """Fit the last layer of a network by least squares, which takes no training."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        net.eval()(images)
    hook.remove()
    features = torch.cat([seen[0], torch.ones(len(seen[0]), 1)], dim=1).double()
    targets = nn.functional.one_hot(labels, head.out_features).double() * 10 - 5
    square = features.T @ features + 1e-3 * torch.eye(features.shape[1])
    solved = torch.linalg.solve(square, features.T @ targets).float()
    with torch.no_grad():
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])
    return net


def _wrapped(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def _other(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


SAVE: dict[str, Callable[[nn.Module, Path], None]] = {
    "plain.pth": lambda net, path: torch.save(net.state_dict(), path),
    "nested.pt": lambda net, path: torch.save(
        {
            "state_dict": _wrapped(net.state_dict(), "module."),
            "args": argparse.Namespace(lr=0.1, out=Path("x")),
            "best": torch.tensor(0.5).numpy()[()],
            "best_acc": torch.tensor([50.0]),  # as RepDistiller has it
            "optimizer": {"state": {}, "param_groups": []},
        },
        path,
    ),
    "weights.safetensors": lambda net, path: save_model(net, str(path)),
    "last.bin": lambda net, path: torch.save(
        {"model": net.state_dict(), "model_ema": _other(net.state_dict())}, path
    ),
    "averaged.ckpt": lambda net, path: torch.save(
        {"model": _other(net.state_dict()), "model_ema": _wrapped(net.state_dict(), "module.")}, path
    ),
    "compiled.pth": lambda net, path: torch.save(_wrapped(net.state_dict(), "_orig_mod."), path),
    "oldest.pth": lambda net, path: torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False),
}
"""Name of a file → how it is saved."""
