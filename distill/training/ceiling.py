"""Compute the confidence at which smoothed labels would stop a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.losses import Loss

if TYPE_CHECKING:
    from jaxtyping import Int64


_TARGETS = 1 << 22
"""Number of target values (labels × classes) that are computed at a time."""


def confidence_ceiling(loss: Loss, labels: Int64[Tensor, " n"], classes: int, progress: float) -> float:
    """Return the mean confidence that a network would have if it predicted exactly its smoothed targets.

    Targets are read off the loss: the gradient of cross-entropy by the logits is softmax - target (Müller et al.
    2019, section 1), here at logits of 0. So they are the targets of the loss that is minimised, whatever the
    convention, matrix or schedule.

    Args:
        loss: a loss whose targets depend on label and progress only (`has_ceiling`).
        labels: labels of the samples, on the device of the loss.
        classes: number of classes.
        progress: progress of training, 0 to 1.
    """
    classes_there, counts = labels.unique(return_counts=True)
    largest = []
    for part in classes_there.split(max(1, _TARGETS // classes)):
        logits = torch.zeros(len(part), classes, device=labels.device, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(logits, part, None, progress).total, logits)
        largest.append((1 / classes - len(part) * gradient).amax(1))
    # On the CPU, since mps does not have float64.
    return (torch.cat(largest).double().cpu() @ counts.double().cpu() / len(labels)).item()
