"""How sure a network is, against how sure its labels ask it to be and against how often it is right."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.metrics.calibration_error import NORMAL, wilson


class Gap(NamedTuple):
    """Accuracy less mean confidence; above 0 the network is more often right than it says."""

    accuracy: float
    """Share of samples that is right."""
    confidence: float
    """Their mean largest probability."""
    gap: float
    """Accuracy less confidence, in [-1, 1]."""
    low: float
    """Lower end of its 95 % interval over samples."""
    high: float
    """Upper end."""


def ceiling(smoothing: float, classes: int) -> float:
    """Mean largest probability of a network that gives exactly its smoothed targets: 1 - ε + ε/K.

    `smoothing` is ε of the uniform convention (`losses.in_uniform` gives it). A network that learns from labels
    only has no reason to be surer than this on its training images: cross-entropy with these targets is least there
    (Müller et al. 2019, section 1).
    """
    return 1 - smoothing + smoothing / classes


def confidence_gap(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Gap:
    """Accuracy less mean confidence, with a 95 % interval over samples.

    The interval puts together Wilson's of the accuracy and the normal one of the mean confidence, with their
    correlation over samples (MOVER: Zou & Donner, Stat. Med. 2008, section 2). With many samples it is that of the
    paired differences; unlike that one it does not become too narrow when all samples are right or all wrong.

    Raises:
        ValueError: there is no sample.
    """
    n = len(labels)
    if not n:
        raise ValueError("confidence_gap takes one sample or more. Keep some images with --data.held-out.")
    confidences, answers = torch.softmax(logits.double(), dim=1).max(dim=1)
    right = (answers == labels).double()
    accuracy, confidence = right.mean().item(), confidences.mean().item()
    centred = confidences - confidence
    half = NORMAL * math.sqrt(centred.square().sum().item() / (n * max(1, n - 1)))
    low, high = (end.item() for end in wilson(right.mean(), torch.tensor(n)))
    # Not `torch.corrcoef`, which is not a number where either is constant.
    spread = math.sqrt(centred.square().sum().item() * (right - accuracy).square().sum().item())
    together = (centred * (right - accuracy)).sum().item() / spread if spread > 0 else 0.0

    def reach(side: float) -> float:
        return math.sqrt(max(0.0, side**2 - 2 * together * side * half + half**2))

    gap = accuracy - confidence
    return Gap(accuracy, confidence, gap, gap - reach(accuracy - low), gap + reach(high - accuracy))


def under_confident(gap: Gap) -> bool:
    """Whether the network is more often right than it says: the interval lies wholly above 0."""
    return gap.low > 0
