"""Compute how strongly labels are smoothed at a training step and for each sample.

Both functions give a factor f of the configured smoothing. A sample is charged (1 - f) CE(label) + f CE(smoothed
label): f = 0 teaches the label as it is, and f = 1 teaches it with all of its smoothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from distill.config import LabelsConfig
from distill.losses.terms import Labels

BySample = Literal["none", "difficulty", "confidence"]


def strength(config: LabelsConfig, progress: float) -> float:
    """Return the factor of smoothing at a moment of training, by the config's schedule.

    - constant: 1.
    - linear, cosine: from `first` to 1, in a straight line or by half a cosine wave.
    - warm-down: 1 for the share `hold` of the training, then in a straight line to 0.

    `progress` is 0 at the first step and 1 at the last.

    Raises:
        ValueError: progress is outside 0 to 1.
    """
    if config.schedule == "constant":
        return 1.0
    if not 0 <= progress <= 1:
        raise ValueError(f"progress = {progress!r}: expected 0 at the first step to 1 at the last.")
    match config.schedule:
        case "linear":
            return config.first + (1 - config.first) * progress
        case "cosine":
            return config.first + (1 - config.first) * (1 - math.cos(math.pi * progress)) / 2
        case "warm-down":
            return min(1.0, (1 - progress) / (1 - config.hold))


def sample_factor(by_sample: BySample, log_p: Float[Tensor, "n k"], labels: Labels) -> Float[Tensor, " n"]:
    """Return the factor of smoothing of each sample, in 0 to 1, without gradient, from log-probabilities.

    - none: 1.
    - difficulty: 1 - p(label); for mixed labels 1 - Σ share x p.
    - confidence: 1 - H(p) / log K, the α of Lee et al. (EMNLP 2022, "Adaptive Label Smoothing with Self-Knowledge
      in Natural Language Generation"). The paper takes α itself as the smoothing and smooths towards an earlier
      state of the network; here the smoothing is ε times α.

    All classes in `labels` must be in range.
    """
    with torch.no_grad():
        if by_sample == "none":
            return torch.ones_like(log_p[:, 0])
        if by_sample == "confidence":
            # Rounding can lift the entropy of equal probabilities above log K; the factor must not become negative.
            entropy = -(log_p.exp() * log_p).sum(1)
            return (1 - entropy / math.log(log_p.shape[1])).clamp(0, 1)
        if labels.is_floating_point():
            return 1 - (labels.to(log_p.dtype) * log_p.exp()).sum(1)
        return -torch.expm1(log_p.gather(1, labels.unsqueeze(1)).squeeze(1))
