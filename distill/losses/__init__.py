"""Compute the losses that train teachers and students.

Which loss to take:

- For everything that a config asks for, labels and teacher, as the trainer uses it: `make_loss`. `prepare` computes
  targets for it once, before training. For KL divergence `make_loss` takes a fused path, whose readable twins are
  `kl_distillation` and `cross_entropy`.
- For labels, in a loop of your own: `cross_entropy` with a smoothing of either convention, `max_suppression`, or
  `label_loss`, which knows all kinds of smoothing.
- For a teacher, in a loop of your own: `kl_distillation`. The soft terms of other papers are in `distillation`,
  listed in `distill.config.SOFT_TERMS`.
- To find out why a batch cannot be learned from: `check_batch`, which `make_loss` calls on its first batch.

The way of a cached logit to the gradient:

1. `cache.soft_targets` reads logits [n, k] from the cache; `prepare` softens them and gives a sample a column.
2. The loader puts them beside the images and labels of their batch, as `batch.teacher`.
3. `training.step.take_step` calls `loss(logits, batch.labels, batch.teacher, progress)`, made by `make_loss` once.
4. Plain KL goes through `fused.distilled`, which returns the value with its gradient; other soft terms go through
   `objective.soft_term`, and autograd derives them.
5. The hard term (`hard_term.hard_term`, where `--smoothing` acts) is added with the weight 1 - alpha.

All losses take logits, never probabilities, and average over the batch. Labels are classes or, for mixed views, the
share of each class (rows sum to 1). `temperature_on` says to whom the temperature applies, and
`smoothing_convention` how the smoothed mass is spread.
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
)
from distill.losses.objective import make_loss, prepare
from distill.losses.terms import FromTeacher, Labels, Loss, Targets, Terms

__all__ = [
    "FromTeacher",
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
]
