"""Losses of teacher and student. Which one do I want?

- All that a config asks for, labels and teacher, as the trainer has it: `make_loss`, with `prepare` for targets
  that are computed once. For KL divergence it takes a fused path, whose readable twins are `kl_distillation` and
  `cross_entropy`.
- Labels, in a loop of my own: `cross_entropy` with a smoothing of either convention, `max_suppression`, or
  `label_loss`, which knows all kinds of smoothing.
- A teacher, in a loop of my own: `kl_distillation`; the soft terms of other papers are in `distillation`, listed in
  `distill.config.SOFT_TERMS`.
- To be told why a batch cannot be learned from: `check_batch`, which `make_loss` calls on the first one.

All take logits, never probabilities, and average over the batch. Labels are classes or, for mixed views, the share
of each class (rows sum to 1). Each convention has a name: where the temperature goes (`temperature_on`) and how
the smoothed mass is spread (`smoothing_convention`).
"""

from __future__ import annotations

from distill.losses.checks import check_batch
from distill.losses.distillation import kl_distillation
from distill.losses.labels import (
    cross_entropy,
    has_one_smoothing,
    in_uniform,
    label_loss,
    max_suppression,
    uniform_smoothing,
)
from distill.losses.objective import make_loss, prepare
from distill.losses.terms import Labels, Loss, Targets, Terms

__all__ = [
    "Labels",
    "Loss",
    "Targets",
    "Terms",
    "check_batch",
    "cross_entropy",
    "has_one_smoothing",
    "in_uniform",
    "kl_distillation",
    "label_loss",
    "make_loss",
    "max_suppression",
    "prepare",
    "uniform_smoothing",
]
