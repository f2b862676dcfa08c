"""Compute the logits of a network, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.data.normaliser import Normaliser

if TYPE_CHECKING:
    from jaxtyping import Float

    from distill.data.sets.dataset import Images


def inference_batch(device: str) -> int:
    """Return the number of samples per forward pass without gradient."""
    # Few enough for a CPU's caches, enough to fill a GPU.
    return 128 if device == "cpu" else 2048


def predict(model: nn.Module, images: Images, normalise: Normaliser, device: str) -> Float[Tensor, "n *t k"]:
    """Return the logits of a model in evaluation mode, in float32 on the CPU; then restore the model's mode."""
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        parts = [model(normalise(part.to(device))) for part in images.split(inference_batch(device))]
    model.train(was_training)
    return torch.cat(parts).float().cpu()
