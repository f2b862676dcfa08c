"""Compute the loss of distillation by KL divergence on a fast path, with its gradient, without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill.config import LossConfig
from distill.losses.checks import check_shapes
from distill.losses.labels import in_uniform
from distill.losses.terms import (
    FromTeacher,
    Labels,
    Loss,
    Targets,
    Terms,
    at_least_float32,
    log_softmax_of_teacher,
    required,
)


def distilled(config: LossConfig) -> Loss:
    """Make the loss of a student with KL distillation, hard and soft term, from teacher logits or `Targets`."""

    def loss(logits: Tensor, labels: Labels, teacher: FromTeacher | None = None, progress: float = 1.0) -> Terms:
        z = at_least_float32(logits.detach()).t()
        if not isinstance(teacher, Targets):
            log_p = _log_soft_targets(required(teacher), config.temperature, z.dtype)
            teacher = Targets(log_p.exp(), log_p)
        if teacher.p.shape != z.shape:
            check_shapes(logits, teacher.p.t())
        terms, gradient = _distillation(z, labels, teacher, config)
        return Terms(_WithGradient.apply(logits, terms.total, gradient), terms.hard, terms.soft)

    return loss


def prepare_targets(teacher_logits: Float[Tensor, "c k"], temperature: float, batch_size: int) -> Sequence[Targets]:
    """Compute `Targets` of thousands of samples at once, cut into batches; the last batch may be smaller."""
    log_p = _log_soft_targets(teacher_logits, temperature, torch.float32)
    return [
        Targets(*pair) for pair in zip(_blocks(log_p.exp(), batch_size), _blocks(log_p, batch_size), strict=True)
    ]


def _log_soft_targets(teacher_logits: Tensor, temperature: float, dtype: torch.dtype) -> Float[Tensor, "k n"]:
    # A constant of one dimension, so that its product with logits of half precision has the precision `dtype`.
    inverse = _constant(1 / temperature, dtype, teacher_logits.device).view(1)
    return log_softmax_of_teacher(teacher_logits.t() * inverse, 0)


def _blocks(columns: Float[Tensor, "k c"], size: int) -> list[Float[Tensor, "k n"]]:
    """Cut a matrix with a column per sample into contiguous batches of `size` samples; the last may be smaller."""
    # All whole blocks are made by one copy, not by one copy each.
    whole = columns.shape[1] // size * size
    blocks = list(columns[:, :whole].unflatten(1, (-1, size)).transpose(0, 1).contiguous().unbind())
    return blocks if whole == columns.shape[1] else [*blocks, columns[:, whole:].contiguous()]


def _distillation(
    z: Float[Tensor, "k n"],
    labels: Labels,
    targets: Targets,
    config: LossConfig,
) -> tuple[Terms, Float[Tensor, "k n"]]:
    """Compute the hard and the soft term of the loss, and the gradient of their weighted sum, without autograd.

    This is the fused twin of the readable losses. Per sample, dL/dz = (1 - alpha)(p - y) + alpha T_s (p_s - p_t),
    where T_s is the student's temperature, p = softmax(z), p_s = softmax(z / T_s), p_t = softmax(z_t / T) and y is
    the smoothed label.
    """
    # Samples are columns, since a CPU's softmax over rows of ten takes ten times as long. Few different operations
    # are used: between large layers the code of each has to be read again, which costs 15 to 30 µs on a CPU.
    classes, n = z.shape
    alpha = config.alpha
    student_temperature = config.temperature if config.temperature_on == "both" else 1.0

    tempered_z = z if student_temperature == 1 else z * _scalar(1 / student_temperature, z)
    log_tempered = torch.log_softmax(tempered_z, dim=0)
    tempered = log_tempered.exp()
    soft = _inner(targets.p, targets.log_p - log_tempered) * _scalar(student_temperature**2 / n, z)
    weight = alpha * student_temperature / n
    if alpha == 1:
        return Terms(soft, None, soft), tempered.sub_(targets.p).mul_(_scalar(weight, z))

    smoothing = in_uniform(config.smoothing, config.smoothing_convention, classes)
    log_p = log_tempered if student_temperature == 1 else torch.log_softmax(z, dim=0)
    p = tempered if student_temperature == 1 else log_p.exp()
    share = (1 - alpha) / n
    weighted_y = torch.full_like(log_p, -share * smoothing / classes)
    if labels.is_floating_point():
        weighted_y.add_(labels.t(), alpha=-share * (1 - smoothing))
    else:
        weighted_y.scatter_(0, labels.unsqueeze(0), -share * (1 - smoothing + smoothing / classes))
    weighted_hard = _inner(weighted_y, log_p)
    hard = weighted_hard * _scalar(1 / (1 - alpha), z)
    gradient = weighted_y.add_(p, alpha=share).add_(tempered.sub_(targets.p), alpha=weight)
    return Terms(weighted_hard.add_(soft, alpha=alpha), hard, soft), gradient


class _WithGradient(torch.autograd.Function):
    """Attach a hand-computed gradient, kept as [k, n], to a loss of logits [n, k]; it has no second derivative."""

    @staticmethod
    def forward(
        ctx: Any, logits: Float[Tensor, "n k"], value: Float[Tensor, ""], gradient: Float[Tensor, "k n"]
    ) -> Float[Tensor, ""]:
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        return value

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Float[Tensor, ""]) -> tuple[Float[Tensor, "n k"], None, None]:
        (gradient,) = ctx.saved_tensors
        # Scale before the cast: the factor of a gradient scaler keeps the gradient above float16's smallest number.
        return (gradient * grad_outputs[0]).t().to(ctx.dtype), None, None


@lru_cache(maxsize=64)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Float[Tensor, ""]:
    # Multiplying by a Python number would make a new tensor each time.
    return torch.tensor(value, dtype=dtype, device=device)


def _scalar(value: float, like: Tensor) -> Float[Tensor, ""]:
    return _constant(value, like.dtype, like.device)


def _inner(a: Float[Tensor, "k n"], b: Float[Tensor, "k n"]) -> Float[Tensor, ""]:
    return torch.dot(a.view(-1), b.view(-1))
