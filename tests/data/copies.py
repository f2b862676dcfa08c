"""Sentences of letters, to be copied: a label per position, and padding that counts nowhere."""

from __future__ import annotations

import torch
from torch import nn

from distill.config import (
    IGNORED,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)

LENGTH, NAMES = 6, ("end", "a", "b", "c", "d")


def sentences(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sentences of 1 to 5 letters, to be copied with an end; token 5 begins a copy."""
    generator = torch.Generator().manual_seed(seed)
    letters = torch.randint(1, len(NAMES), (count, LENGTH), generator=generator)
    lengths = torch.randint(1, LENGTH, (count, 1), generator=generator)
    place = torch.arange(LENGTH)
    source = torch.where(place < lengths, letters, 0)
    begun = torch.cat([torch.full((count, 1), 5), source[:, :-1]], 1)
    labels = torch.where(place <= lengths, source, IGNORED)
    return torch.stack([source, begun], 1)[:, None].to(torch.uint8), labels


def copies(n: int = 200):
    return *sentences(n, 0), *sentences(40, 1), NAMES


class Copyist(nn.Module):
    """Logits of each position from both tokens at it."""

    def __init__(self, num_classes: int, dropout: float):
        super().__init__()
        self.source, self.read = nn.Embedding(8, 16), nn.Embedding(8, 16)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.ReLU(), nn.Linear(16, num_classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        source, read = images.long().squeeze(1).unbind(1)
        return self.head(self.source(source) + self.read(read))


def copyist(num_classes: int, in_shape: tuple[int, int, int], dropout: float = 0.0) -> nn.Module:
    return Copyist(num_classes, dropout)


DATA = DataConfig(name=copies, held_out=0.15)
SCHEDULE = ScheduleConfig(epochs=15, batch_size=32)
OPTIM = OptimConfig(name="adamw", lr=0.02)
MODEL = ModelConfig(name=copyist)
TEACHER = TeacherConfig(data=DATA, model=MODEL, schedule=SCHEDULE, optim=OPTIM).with_loss(smoothing=0.1)
STUDENT = StudentConfig(data=DATA, model=MODEL, schedule=SCHEDULE, optim=OPTIM, loss=LossConfig(alpha=0))
