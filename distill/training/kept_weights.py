"""Weights that are kept along a training."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_model
from torch import nn


def snapshot_file(step: int) -> str:
    """Path of a snapshot within the folder of its network."""
    return f"snapshots/{step:08d}.safetensors"


def save_snapshot(model: nn.Module, step: int, folder: Path) -> None:
    """Keep the weights after `step` updates; an interrupted call leaves no half of them."""
    path = folder / snapshot_file(step)
    path.parent.mkdir(exist_ok=True)
    save_model(model, str(path.with_suffix(".partial")))
    path.with_suffix(".partial").replace(path)
