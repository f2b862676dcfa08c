"""Smoothing of every kind the slow way: matrices, factors by step and by sample, confidence penalty."""

from __future__ import annotations

import math

from distill.config import LossConfig
from tests.losses.slow_losses import Rows, slow_maxsup, slow_softmax, slow_target


def slow_factor(c: LossConfig, progress: float) -> float:
    """Of the schedule."""
    how = c.labels
    if how.schedule == "linear":
        return how.first * (1 - progress) + progress
    if how.schedule == "cosine":
        return how.first + (1 - how.first) * math.sin(math.pi * progress / 2) ** 2
    if how.schedule == "warm-down":
        return 1 if progress <= how.hold else 1 - (progress - how.hold) / (1 - how.hold)
    return 1


def slow_sample_factor(by_sample: str, z: list[float], shares: list[float]) -> float:
    p = slow_softmax(z)
    if by_sample == "difficulty":
        return 1 - sum(s * q for s, q in zip(shares, p, strict=True))
    if by_sample == "confidence":
        return 1 - slow_entropy(z) / math.log(len(z))
    return 1


def slow_entropy(z: list[float]) -> float:
    return -sum(q * math.log(q) for q in slow_softmax(z))


def slow_rows(c: LossConfig, classes: int, matrix: Rows | None) -> Rows:
    """What each label is taught as."""
    if matrix is not None:
        return matrix
    smoothing = 0 if c.smoothing_convention == "maxsup" else c.smoothing
    convention = "uniform" if c.smoothing_convention == "maxsup" else c.smoothing_convention
    return [slow_target(label, classes, smoothing, convention) for label in range(classes)]


def slow_labels(
    logits: Rows,
    labels: list,
    c: LossConfig,
    matrix: Rows | None = None,
    progress: float = 1.0,
    at: Rows | None = None,
    ignored: int = -100,
) -> float:
    """The hard term; `at` are the logits whose sample factors are taken as constants."""
    classes, terms = len(logits[0]), []
    rows, of_step = slow_rows(c, classes, matrix), slow_factor(c, progress)
    for z, label, fixed in zip(logits, labels, at or logits, strict=True):
        if label == ignored:
            continue
        shares = label if isinstance(label, list) else [float(k == label) for k in range(classes)]
        f = of_step * slow_sample_factor(c.labels.by_sample, fixed, shares)
        surprise = [-math.log(q) for q in slow_softmax(z)]
        hard = sum(s * x for s, x in zip(shares, surprise, strict=True))
        soft = sum(s * rows[y][k] * surprise[k] for y, s in enumerate(shares) for k in range(classes))
        loss = (1 - f) * hard + f * soft - c.labels.confidence_penalty * slow_entropy(z)
        if c.smoothing_convention == "maxsup":
            loss = hard + slow_maxsup(z, f * c.smoothing) - c.labels.confidence_penalty * slow_entropy(z)
        terms.append(loss)
    return sum(terms) / len(terms)
