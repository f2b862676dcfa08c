"""Losses of teacher and student: smoothed cross-entropy, maximum suppression, and the soft terms of distillation.

All take logits, never probabilities, and average over the batch. Labels are classes or, for mixed views, the share
of each class (rows sum to 1). Each convention has a name: where the temperature goes (`temperature_on`) and how
the smoothed mass is spread (`smoothing_convention`). `make_loss` is what the trainer calls; for distillation by KL
divergence it takes the fused path, whose readable twins are `kl_distillation` and `cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.config import SOFT_TERMS, LossConfig
from distill.losses.distillation import (
    DecoupledKL,
    TemperatureOn,
    classes_of,
    correlation,
    decoupled_distillation,
    decoupled_kl,
    decoupled_temperatures,
    dist_distillation,
    kl_distillation,
    logit_matching,
    soft_targets,
    standardised_distillation,
    weighted_soft_labels,
)
from distill.losses.fused import distilled, prepare_targets
from distill.losses.labels import (
    cross_entropy,
    in_uniform,
    is_usual,
    label_loss,
    max_suppression,
    uniform_smoothing,
)
from distill.losses.terms import Labels, Loss, Targets, Terms, at_least_float32, required

__all__ = [
    "DecoupledKL",
    "Labels",
    "Loss",
    "Targets",
    "TemperatureOn",
    "Terms",
    "classes_of",
    "correlation",
    "cross_entropy",
    "decoupled_distillation",
    "decoupled_kl",
    "decoupled_temperatures",
    "dist_distillation",
    "in_uniform",
    "is_usual",
    "kl_distillation",
    "label_loss",
    "logit_matching",
    "make_loss",
    "max_suppression",
    "prepare",
    "soft_targets",
    "standardised_distillation",
    "uniform_smoothing",
    "weighted_soft_labels",
]


def make_loss(config: LossConfig, matrix: Float[Tensor, "k k"] | None = None) -> Loss:
    """The one callable that a run calls at each step: (logits, labels, teacher logits or None, progress) → `Terms`.

    A teacher's loss is that of alpha = 0. Logits of half precision are computed with in float32, and their
    gradient is cast back.
    """
    if config.alpha == 0:
        return _labels_only(config)
    if config.soft != "kl":
        return _both(config, _soft_term(config))
    if config.alpha == 1 or config.smoothing_convention != "maxsup":
        return distilled(config)
    alone = distilled(config.replace(alpha=1))
    return _both(config, lambda student, labels, teacher: alone(student, labels, teacher).total)


def prepare(
    config: LossConfig, teacher_logits: Float[Tensor, "c k"], batch_size: int
) -> Sequence[Tensor | Targets]:
    """What `make_loss` wants of the teacher, batch by batch, for thousands of samples at once.

    The soft targets of a sample do not change, so a step need not compute them; the last batch may be smaller.
    """
    if config.soft != "kl":
        return at_least_float32(teacher_logits).split(batch_size)
    return prepare_targets(teacher_logits, config.temperature, batch_size)


_SoftTerm = Callable[[Tensor, Labels, "Tensor | Targets | None"], Tensor]


def _labels_only(config: LossConfig) -> Loss:
    def loss(
        logits: Tensor, labels: Labels, teacher: Tensor | Targets | None = None, progress: float = 1.0
    ) -> Terms:
        hard = label_loss(logits, labels, config.smoothing, config.smoothing_convention)
        return Terms(hard, hard.detach(), None)

    return loss


def _both(config: LossConfig, soft_term: _SoftTerm) -> Loss:
    alpha = config.alpha

    def loss(
        logits: Tensor, labels: Labels, teacher: Tensor | Targets | None = None, progress: float = 1.0
    ) -> Terms:
        # Cast here, so that the terms' gradients meet before they are rounded to half precision.
        logits = at_least_float32(logits)
        soft = soft_term(logits, labels, teacher)
        if alpha == 1:
            return Terms(soft, None, soft.detach())
        hard = label_loss(logits, labels, config.smoothing, config.smoothing_convention)
        return Terms(torch.lerp(hard, soft, alpha), hard.detach(), soft.detach())

    return loss


def _soft_term(config: LossConfig) -> _SoftTerm:
    temperature = config.temperature
    arguments = SOFT_TERMS[config.soft] | config.kwargs

    def term(student: Tensor, labels: Labels, prepared: Tensor | Targets | None) -> Tensor:
        assert not isinstance(prepared, Targets), "prepared for another loss"
        teacher = required(prepared)
        match config.soft:
            case "logit-matching":
                return logit_matching(student, teacher)
            case "standardised":
                return standardised_distillation(student, teacher, temperature)
            case "dkd":
                return decoupled_distillation(student, teacher, labels, temperature, **arguments)
            case "dist":
                return dist_distillation(student, teacher, temperature, **arguments)
            case "wsl":
                return weighted_soft_labels(student, teacher, labels, temperature)
            case "decoupled":
                return decoupled_temperatures(student, teacher, labels, temperature, **arguments)
            case "kl":
                return kl_distillation(student, teacher, temperature, config.temperature_on)

    return term
