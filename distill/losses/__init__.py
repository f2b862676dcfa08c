"""Losses of teacher and student: smoothed cross-entropy, maximum suppression, and the soft terms of distillation.

All take logits, never probabilities, and average over the batch. Labels are classes or, for mixed views, the share
of each class (rows sum to 1). Each convention has a name: where the temperature goes (`temperature_on`) and how
the smoothed mass is spread (`smoothing_convention`). `make_loss` is what the trainer calls; for distillation by KL
divergence it takes the fused path, whose readable twins are `kl_distillation` and `cross_entropy`. On the first
batch it refuses what it cannot learn from (`check_batch`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.config import SOFT_TERMS, LossConfig, SmoothingConvention
from distill.losses.adaptive import BySample, sample_factor, strength
from distill.losses.checks import check_batch
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
from distill.losses.matrices import Rows, rows_of
from distill.losses.terms import IGNORED, Labels, Loss, Targets, Terms, at_least_float32, required

__all__ = [
    "IGNORED",
    "BySample",
    "DecoupledKL",
    "Labels",
    "Loss",
    "Targets",
    "TemperatureOn",
    "Terms",
    "check_batch",
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
    "sample_factor",
    "soft_targets",
    "standardised_distillation",
    "strength",
    "uniform_smoothing",
    "weighted_soft_labels",
]


def make_loss(config: LossConfig, matrix: Float[Tensor, "k k"] | None = None) -> Loss:
    """The one callable that a run calls at each step: (logits, labels, teacher logits or None, progress) → `Terms`.

    A teacher's loss is that of alpha = 0. Logits of half precision are computed with in float32, and their
    gradient is cast back. The first call checks its batch (`check_batch`) and waits for the device; no other does.
    A schedule of smoothing goes by progress, and without it the loss is that of the last step.

    Args:
        config: both terms.
        matrix: targets of each label (`matrices.smoothed`), where the config asks for more than one ε for all.

    Raises:
        ValueError: the config asks for a matrix and there is none, or the other way round; or it is none of
            targets. The first call raises a UserError as `check_batch` does.
    """
    _check_matrix(config, matrix)
    # From the teacher alone, labels may be anything.
    uses_labels = config.alpha < 1 or config.soft in ("dkd", "wsl", "decoupled")
    return _checking_first(_unchecked(config, matrix), uses_labels)


def _unchecked(config: LossConfig, matrix: Float[Tensor, "k k"] | None) -> Loss:
    hard_term = _hard_term(config, matrix)
    if config.alpha == 0:
        return _labels_only(hard_term)
    if config.soft != "kl":
        return _both(config, hard_term, _soft_term(config))
    if config.alpha == 1 or (is_usual(config) and config.smoothing_convention != "maxsup"):
        return distilled(config)
    alone = distilled(LossConfig(temperature=config.temperature, temperature_on=config.temperature_on))
    return _both(config, hard_term, lambda student, labels, teacher: alone(student, labels, teacher).total)


def _check_matrix(config: LossConfig, matrix: Float[Tensor, "k k"] | None) -> None:
    needs = bool(config.labels.per_class) or config.labels.towards != "all"
    if matrix is None:
        if needs:
            raise ValueError("matrix = None: expected targets [k, k], which labels.per_class and towards ask for.")
        return
    if not needs:
        raise ValueError("matrix given: expected None, since one smoothing is for all classes.")
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or not (matrix >= 0).all() or not ((matrix.double().sum(1) - 1).abs() < 1e-5).all():
        raise ValueError("matrix: expected one row per class, non-negative, that sums to 1 (matrices.smoothed).")


def _checking_first(loss: Loss, uses_labels: bool) -> Loss:
    checked = False

    def checking(
        logits: Tensor, labels: Labels, teacher: Tensor | Targets | None = None, progress: float = 1.0
    ) -> Terms:
        nonlocal checked
        if not checked:
            check_batch(logits, labels if uses_labels else None)
            checked = True
        return loss(logits, labels, teacher, progress)

    return checking


def prepare(
    config: LossConfig, teacher_logits: Float[Tensor, "c k"], batch_size: int
) -> Sequence[Tensor | Targets]:
    """What `make_loss` wants of the teacher, batch by batch, for thousands of samples at once.

    The soft targets of a sample do not change, so a step need not compute them; the last batch may be smaller.
    """
    if config.soft != "kl":
        return at_least_float32(teacher_logits).split(batch_size)
    return prepare_targets(teacher_logits, config.temperature, batch_size)


_HardTerm = Callable[[Tensor, Labels, float], Tensor]
_SoftTerm = Callable[[Tensor, Labels, "Tensor | Targets | None"], Tensor]


def _hard_term(config: LossConfig, matrix: Float[Tensor, "k k"] | None) -> _HardTerm:
    if is_usual(config) and config.smoothing_convention != "maxsup":
        return _usual_term(config.smoothing, config.smoothing_convention)
    labels_config, convention = config.labels, config.smoothing_convention
    smoothing = config.smoothing if matrix is None else 0.0

    @lru_cache(maxsize=4)
    def rows(dtype: torch.dtype, device: torch.device) -> Rows | None:
        return None if matrix is None else rows_of(matrix, torch.empty(0, dtype=dtype, device=device))

    def term(logits: Tensor, labels: Labels, progress: float) -> Tensor:
        z = at_least_float32(logits)
        return label_loss(
            z,
            labels,
            smoothing,
            convention,
            matrix=rows(z.dtype, z.device),
            factor=strength(labels_config, progress),
            by_sample=labels_config.by_sample,
            confidence_penalty=labels_config.confidence_penalty,
        )

    return term


def _usual_term(smoothing: float, convention: SmoothingConvention) -> _HardTerm:
    def term(logits: Tensor, labels: Labels, progress: float) -> Tensor:
        if labels.ndim > 1:
            return label_loss(logits, labels, smoothing, convention)
        # The same, in a few microseconds less: as many as a smoothed loss may cost more than torch's.
        z = at_least_float32(logits)
        return F.cross_entropy(z, labels, label_smoothing=in_uniform(smoothing, convention, z.shape[1]))

    return term


def _labels_only(hard_term: _HardTerm) -> Loss:
    def loss(
        logits: Tensor, labels: Labels, teacher: Tensor | Targets | None = None, progress: float = 1.0
    ) -> Terms:
        hard = hard_term(logits, labels, progress)
        return Terms(hard, hard.detach(), None)

    return loss


def _both(config: LossConfig, hard_term: _HardTerm, soft_term: _SoftTerm) -> Loss:
    alpha = config.alpha

    def loss(
        logits: Tensor, labels: Labels, teacher: Tensor | Targets | None = None, progress: float = 1.0
    ) -> Terms:
        # Cast here, so that the terms' gradients meet before they are rounded to half precision.
        logits = at_least_float32(logits)
        soft = soft_term(logits, labels, teacher)
        if alpha == 1:
            return Terms(soft, None, soft.detach())
        hard = hard_term(logits, labels, progress)
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
