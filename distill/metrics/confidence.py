"""Compare how sure a network is with how often it is right, and with how sure its labels ask it to be."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from distill.metrics.arrays import Labels, Logits
from distill.metrics.intervals import NORMAL, wilson


class Gap(NamedTuple):
    """Compare accuracy with mean confidence: above 0 the network is right more often than it says."""

    accuracy: float
    """Share of samples whose answer is right."""
    confidence: float
    """Largest probability of a sample, averaged over samples."""
    gap: float
    """Accuracy less confidence, in [-1, 1]."""
    low: float
    """Lower end of the 95 % interval of `gap` over samples."""
    high: float
    """Upper end of the 95 % interval of `gap` over samples."""


def mean_confidence(logits: Logits) -> float:
    """Return the largest probability of a sample, averaged over samples."""
    return torch.softmax(logits.double(), dim=1).amax(dim=1).mean().item()


def ceiling(smoothing: float, classes: int) -> float:
    """Return the largest probability of a network that gives exactly its smoothed targets: 1 - ε + ε/K.

    `smoothing` is ε of the uniform convention (`losses.in_uniform` gives it). A network that learns from labels
    only has no reason to be surer than this on its training images: the cross-entropy with smoothed targets is
    least there (Müller et al. 2019, section 1).
    """
    return 1 - smoothing + smoothing / classes


def confidence_gap(logits: Logits, labels: Labels) -> Gap:
    """Compute accuracy less mean confidence, with a 95 % interval over samples.

    The interval combines Wilson's interval of the accuracy with the normal interval of the mean confidence, using
    their correlation over samples (MOVER: Zou & Donner, Stat. Med. 2008, section 2). With many samples it equals
    the interval of the paired differences. Unlike that interval, it does not become too narrow when all samples are
    right or all are wrong.

    Raises:
        ValueError: there is no sample.
    """
    n = len(labels)
    if not n:
        raise ValueError("confidence_gap takes one sample or more. Raise `data.held_out` to keep some images.")
    confidences, answers = torch.softmax(logits.double(), dim=1).max(dim=1)
    right = (answers == labels).double()
    accuracy, confidence = right.mean().item(), confidences.mean().item()
    centred = confidences - confidence
    half = NORMAL * math.sqrt(centred.square().sum().item() / (n * max(1, n - 1)))
    low, high = (end.item() for end in wilson(right.mean(), torch.tensor(n)))
    # `torch.corrcoef` would give NaN where confidence or correctness is constant.
    spread = math.sqrt(centred.square().sum().item() * (right - accuracy).square().sum().item())
    together = (centred * (right - accuracy)).sum().item() / spread if spread > 0 else 0.0

    def reach(side: float) -> float:
        return math.sqrt(max(0.0, side**2 - 2 * together * side * half + half**2))

    gap = accuracy - confidence
    return Gap(accuracy, confidence, gap, gap - reach(accuracy - low), gap + reach(high - accuracy))


def under_confident(gap: Gap) -> bool:
    """Tell whether a network is right more often than it says: accuracy less confidence lies credibly above 0."""
    return gap.low > 0
