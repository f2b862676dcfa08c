"""The confidence at which smoothed labels would stop a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.losses import Loss

if TYPE_CHECKING:
    from jaxtyping import Int64


_TARGETS = 1 << 22
"""Numbers of targets that are made at a time."""


def confidence_ceiling(loss: Loss, labels: Int64[Tensor, " n"], classes: int, progress: float) -> float:
    """What mean confidence would be if a network gave exactly its targets: the mean of their largest shares.

    Targets are read off the loss: the gradient of cross-entropy by the logits is softmax - target (Müller et al.
    2019, section 1), here at logits of 0. So they are those that are minimised, whatever the convention, matrix or
    schedule.

    Args:
        loss: one whose targets depend on label and progress only (`has_ceiling`).
        labels: of the samples, on the device of the loss.
        classes: how many there are.
        progress: of training, 0 to 1.
    """
    found, counts = labels.unique(return_counts=True)
    largest = []
    for part in found.split(max(1, _TARGETS // classes)):
        logits = torch.zeros(len(part), classes, device=labels.device, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits, part, None, progress).total, logits)
        largest.append((1 / classes - len(part) * gradient).amax(1))
    # In float64 on the CPU, which mps has not.
    return (torch.cat(largest).double().cpu() @ counts.double().cpu() / len(labels)).item()
