"""Make the loss that a run minimises, from its config: the hard term, the soft term, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from distill.config import IGNORED, LossConfig
from distill.losses.checks import check_batch, check_shapes
from distill.losses.fused import distilled, prepare_targets
from distill.losses.hard_term import HardTerm, hard_term, is_one_cross_entropy
from distill.losses.terms import FromTeacher, Labels, Loss, Targets, Terms, at_least_float32, required
from distill.system.references import referenced

SoftTermOfBatch = Callable[[Tensor, Labels, "FromTeacher | None"], Tensor]
"""A function (student logits, labels, teacher's logits or prepared targets) → soft term, mean over the batch."""


def make_loss(
    config: LossConfig,
    matrix: Float[Tensor, "k k"] | None = None,
    weights: Float[Tensor, " k"] | None = None,
) -> Loss:
    """Make the loss that a run calls at each step. The loss of a teacher has alpha = 0.

    Logits of half precision are computed with in float32, and
    their gradient is cast back. The first call checks its batch (`check_batch`) and waits for the device; later
    calls check shapes only. A schedule of smoothing follows progress; without progress the loss is as at the last
    step.

    A sample with the label -100 has no hard term, and none of the soft terms that need its label; each term is the
    mean over the samples that have it, and at alpha > 0 a term that no sample has is 0. If the first batch has no
    label of -100, later batches must not contain one at 0 < alpha < 1 with soft kl.

    Args:
        config: both terms.
        matrix: targets of each label (`matrices.smoothed`), where the config asks for more than one ε for all
            classes.
        weights: weight of each class in the hard term, where the config asks for class weights.

    Raises:
        ValueError: the config has an equivalent smoothing in place of a temperature; or it asks for a matrix or for
            weights and there are none, there are some that it does not ask for, or the matrix's rows are not
            targets. The first call of the loss raises a UserError as `check_batch` does, and each call raises one
            where the shapes of its arguments do not fit.
    """
    if config.equivalent_smoothing is not None:
        raise ValueError("make_loss takes a temperature. Solve it: distill.cache.soft_targets.with_temperature")
    hard = hard_term(config, matrix, weights)
    # A student that learns from the teacher alone does not use its labels, so they may be anything.
    uses_labels = config.alpha < 1 or config.soft_term.needs_labels
    return _checked(config, hard, uses_labels)


def prepare(config: LossConfig, teacher_logits: Float[Tensor, "c k"], batch_size: int) -> Sequence[FromTeacher]:
    """Compute the teacher's soft targets (or float32 logits) for thousands of samples, and return them by batch."""
    # The soft targets of a sample do not change, so a step need not compute them.
    if config.soft_term.is_plain_kl:
        return prepare_targets(teacher_logits, config.temperature, batch_size)
    return at_least_float32(teacher_logits).split(batch_size)


def soft_term(config: LossConfig) -> SoftTermOfBatch:
    """Make the soft term of a config from its readable function, even where training uses the fused KL path."""
    term = config.soft_term
    how = {"temperature": config.temperature} | term.defaults | config.kwargs
    if term.takes_temperature_on:
        how["temperature_on"] = config.temperature_on
    function = partial(referenced(term.function), **how)

    def soft(logits: Tensor, labels: Labels, prepared: FromTeacher | None) -> Tensor:
        assert not isinstance(prepared, Targets), "prepared for another loss"
        teacher = required(prepared)
        return function(logits, teacher, labels=labels) if term.needs_labels else function(logits, teacher)

    return soft


def _weighted_sum(config: LossConfig, hard: HardTerm, some_ignored: bool) -> Loss:
    fused = config.soft_term.is_plain_kl
    if fused and (config.alpha == 1 or (config.alpha > 0 and not some_ignored and is_one_cross_entropy(config))):
        return distilled(config)
    # A later batch may be without labels although the first was not.
    if config.alpha > 0:
        hard = _zero_without_labels(hard)
    return _both_terms(config.alpha, hard, _fused_kl(config) if fused else soft_term(config))


def _fused_kl(config: LossConfig) -> SoftTermOfBatch:
    distilled_only = distilled(LossConfig(temperature=config.temperature, temperature_on=config.temperature_on))
    return lambda logits, labels, teacher: distilled_only(logits, labels, teacher).total


def _both_terms(alpha: float, hard_term: HardTerm, soft_term: SoftTermOfBatch) -> Loss:
    def loss(logits: Tensor, labels: Labels, teacher: FromTeacher | None = None, progress: float = 1.0) -> Terms:
        if alpha == 0:
            hard = hard_term(logits, labels, progress)
            return Terms(hard, hard.detach(), None)
        # Cast here, so that the gradients of both terms are added before they are rounded to half precision.
        logits = at_least_float32(logits)
        soft = soft_term(logits, labels, teacher)
        if alpha == 1:
            return Terms(soft, None, soft.detach())
        hard = hard_term(logits, labels, progress)
        return Terms(hard.lerp(soft, alpha), hard.detach(), soft.detach())

    return loss


def _zero_without_labels(hard_term: HardTerm) -> HardTerm:
    def term(logits: Tensor, labels: Labels, progress: float) -> Tensor:
        if labels.is_floating_point():
            return hard_term(logits, labels, progress)
        none = (labels == IGNORED).all()
        # The mean over no sample would be NaN, with a gradient of NaN.
        return hard_term(logits, labels.masked_fill(none, 0), progress).where(~none, 0)

    return term


def _checked(config: LossConfig, hard: HardTerm, uses_labels: bool) -> Loss:
    loss, is_checked = _weighted_sum(config, hard, False), False

    def checked(logits: Tensor, labels: Labels, *teacher_and_progress: Any) -> Terms:
        nonlocal loss, is_checked
        if not is_checked:
            check_batch(logits, labels if uses_labels else None)
            is_checked = True
            # The path that is fused with the hard term has no time to count labels at each step.
            if uses_labels and (labels == IGNORED).any():
                loss = _weighted_sum(config, hard, True)
        elif uses_labels:
            check_shapes(logits, labels=labels)
        return loss(logits, labels, *teacher_and_progress)

    return checked
