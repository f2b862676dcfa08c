"""Save snapshots of the weights during training."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_model
from torch import nn


def steps_to_keep(snapshots: int, total_steps: int) -> list[int]:
    """Return the steps after which weights are kept: 0 and the end of each of `snapshots` equal parts of training.

    The list is empty where `snapshots` is 0.
    """
    if not snapshots:
        return []
    return sorted({round(part * total_steps / snapshots) for part in range(snapshots + 1)})


def snapshot_file(step: int) -> str:
    """Return the path of a snapshot within the folder of its network."""
    return f"snapshots/{step:08d}.safetensors"


def save_snapshot(model: nn.Module, step: int, folder: Path) -> None:
    """Save the weights after `step` updates; an interrupted call leaves no snapshot that is half written."""
    path = folder / snapshot_file(step)
    path.parent.mkdir(exist_ok=True)
    save_model(model, str(path.with_suffix(".partial")))
    path.with_suffix(".partial").replace(path)
