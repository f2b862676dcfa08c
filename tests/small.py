"""The smallest network, one with gaps in its gradients, and the shortest training that tests use."""

from __future__ import annotations

import torch
from torch import nn

from distill.config import ModelConfig, ScheduleConfig

TINY = ModelConfig(name="mlp", kwargs={"widths": [16]})
SHORT = ScheduleConfig(epochs=2, batch_size=64)


class Gaps(nn.Module):
    """Three layers of logits: one gets no gradient, one only from the third step on, one in every third step."""

    def __init__(self, pixels: int, num_classes: int):
        super().__init__()
        self.head, self.never, self.late, self.sometimes = (nn.Linear(pixels, num_classes) for _ in range(4))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits, passes = self.head(images.flatten(1)), int(self.passes)
        if self.training:
            self.passes += 1
        if passes >= 2:
            logits = logits + self.late(images.flatten(1))
        return logits + self.sometimes(images.flatten(1)) if passes % 3 == 1 else logits


def gaps(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    return Gaps(torch.Size(in_shape).numel(), num_classes)


GAPS = ModelConfig(name=gaps)
"""A network some of whose layers have no gradient in some steps."""
