"""Losses of teacher and student: smoothed cross-entropy, distillation by KL divergence, logit matching.

All take logits, never probabilities, and average over the batch. Labels are classes or, for mixed views, the share
of each class (rows sum to 1). Each convention has a name: where the temperature goes (`temperature_on`) and how
the smoothed mass is spread (`smoothing_convention`). `make_loss` is what the trainer calls; for distillation it
takes the fused `_distillation`, whose readable twins are `kl_distillation` and `cross_entropy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from distill.config import LossConfig
from distill.errors import UserError

Convention = Literal["uniform", "others"]
TemperatureOn = Literal["both", "teacher"]
Labels = Int[Tensor, " n"] | Float[Tensor, "n k"] | Int[Tensor, "n t"]
"""Classes, or the share of each class, or (from labels alone) a class per position."""


class Terms(NamedTuple):
    """One step's loss: `total` = (1 - alpha) x `hard` + alpha x `soft`."""

    total: Float[Tensor, ""]
    """What is minimised; differentiable."""
    hard: Float[Tensor, ""] | None
    """Cross-entropy with the labels, for logging; None at alpha = 1, where computing it would cost time."""
    soft: Float[Tensor, ""] | None
    """Distance to the teacher (times T² where the convention says so), for logging; None at alpha = 0."""


class Targets(NamedTuple):
    """Soft targets of a batch, ready for the step: one column per sample."""

    p: Float[Tensor, "k n"]
    log_p: Float[Tensor, "k n"]


Loss = Callable[[Tensor, Tensor, "Tensor | Targets | None"], Terms]
"""(logits [n, k], `Labels`, teacher logits [n, k] or what `prepare` made of them, or None) → terms."""


def uniform_smoothing(others: float, classes: int) -> float:
    """ε of the uniform convention that gives the same targets as `others` spread over the other classes.

    ε_uniform = ε_others · K / (K - 1).

    Raises:
        UserError: no uniform ε below 1 gives these targets: the label would get at most 1/K.
    """
    if others == 0:
        return 0.0
    uniform = others * classes / (classes - 1) if classes > 1 else float("inf")
    if uniform >= 1:
        raise UserError(
            "smoothing",
            others,
            f"less than {1 - 1 / classes:g} over the others of {classes} classes, so that the label gets the most",
            "Lower the smoothing.",
        )
    return uniform


def in_uniform(smoothing: float, convention: Convention, classes: int) -> float:
    """ε of either convention, in the uniform one.

    Raises:
        UserError: as `uniform_smoothing`.
    """
    return smoothing if convention == "uniform" else uniform_smoothing(smoothing, classes)


def cross_entropy(
    logits: Float[Tensor, "n *t k"],
    labels: Labels,
    smoothing: float = 0.0,
    convention: Convention = "uniform",
) -> Float[Tensor, ""]:
    """Cross-entropy with smoothed labels, in nats, mean over the batch, or over its positions that count.

    Targets are (1-ε)y + ε/K for "uniform" (Müller et al. 2019, section 1), and 1-ε for the label, ε/(K-1) for
    each other class for "others" (Shen et al. 2021). Those of a mixed label are the mean of its classes' targets,
    weighted by their shares. Logits [n, t, k] go with labels [n, t], where -100 marks a position that does not
    count.

    Raises:
        UserError: "others" with a smoothing of (K-1)/K or more.
    """
    if logits.ndim > 2:
        logits, labels = logits.flatten(0, -2), labels.flatten()
    z = _at_least_float32(logits)
    targets = labels.to(z.dtype) if labels.is_floating_point() else labels
    return F.cross_entropy(z, targets, label_smoothing=in_uniform(smoothing, convention, logits.shape[1]))


def soft_targets(teacher_logits: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
    """Teacher's tempered probabilities, softmax(z_t / T) (Hinton et al. 2015, eq. 1); rows sum to 1."""
    return torch.softmax(_at_least_float32(teacher_logits) / temperature, dim=1)


def kl_distillation(
    student_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    temperature: float,
    temperature_on: TemperatureOn = "both",
) -> Float[Tensor, ""]:
    """KL divergence from teacher to student, KL(p_t ‖ p_s), in nats, mean over the batch.

    "both" tempers both sides and multiplies by T², so that the gradient does not shrink with T (Hinton et al.
    2015, section 2); "teacher" tempers the teacher only, without T² (Müller et al. 2019, appendix A.1).
    """
    student = _at_least_float32(student_logits)
    student_temperature = temperature if temperature_on == "both" else 1.0
    log_student = torch.log_softmax(student / student_temperature, dim=1)
    log_teacher = torch.log_softmax(teacher_logits.to(student.dtype) / temperature, dim=1)
    kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return student_temperature**2 * kl


def logit_matching(student_logits: Float[Tensor, "n k"], teacher_logits: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """½ ‖z_s - z_t‖², summed over classes, mean over the batch (Müller et al. 2019, appendix A.5)."""
    student = _at_least_float32(student_logits)
    squares = F.mse_loss(student, teacher_logits.to(student.dtype), reduction="sum")
    return squares * (0.5 / student.shape[0])


def make_loss(config: LossConfig) -> Loss:
    """The one callable that a run calls at each step: (logits, labels, teacher logits or None) → `Terms`.

    A teacher's loss is that of alpha = 0. Logits of half precision are computed with in float32, and their
    gradient is cast back.
    """
    if config.alpha == 0:
        return _labels_only(config)
    if config.soft == "logit-matching":
        return _matched(config)
    return _distilled(config)


def prepare(
    config: LossConfig, teacher_logits: Float[Tensor, "c k"], batch_size: int
) -> Sequence[Tensor | Targets]:
    """What `make_loss` wants of the teacher, batch by batch, for thousands of samples at once.

    The soft targets of a sample do not change, so a step need not compute them; the last batch may be smaller.
    """
    if config.soft == "logit-matching":
        return _at_least_float32(teacher_logits).split(batch_size)
    log_p = _log_soft_targets(teacher_logits, config.temperature, torch.float32)
    return [
        Targets(*pair) for pair in zip(_blocks(log_p.exp(), batch_size), _blocks(log_p, batch_size), strict=True)
    ]


def _log_soft_targets(teacher_logits: Tensor, temperature: float, dtype: torch.dtype) -> Float[Tensor, "k n"]:
    return torch.log_softmax(
        teacher_logits.t() * _constant(1 / temperature, dtype, teacher_logits.device).view(1), 0
    )


def _blocks(columns: Float[Tensor, "k c"], size: int) -> list[Float[Tensor, "k n"]]:
    """Contiguous blocks of so many columns, the last one perhaps of fewer, by one copy and not one per block."""
    whole = columns.shape[1] // size * size
    blocks = list(columns[:, :whole].unflatten(1, (-1, size)).transpose(0, 1).contiguous().unbind())
    return blocks if whole == columns.shape[1] else [*blocks, columns[:, whole:].contiguous()]


def _labels_only(config: LossConfig) -> Loss:
    def loss(logits: Tensor, labels: Tensor, teacher: Tensor | Targets | None = None) -> Terms:
        hard = cross_entropy(logits, labels, config.smoothing, config.smoothing_convention)
        return Terms(hard, hard.detach(), None)

    return loss


def _matched(config: LossConfig) -> Loss:
    alpha = config.alpha

    def loss(logits: Tensor, labels: Tensor, teacher: Tensor | Targets | None = None) -> Terms:
        assert not isinstance(teacher, Targets), "prepared for another loss"
        # Cast here, so that the terms' gradients meet before they are rounded to half precision.
        logits = _at_least_float32(logits)
        soft = logit_matching(logits, _required(teacher))
        if alpha == 1:
            return Terms(soft, None, soft.detach())
        hard = cross_entropy(logits, labels, config.smoothing, config.smoothing_convention)
        return Terms(torch.lerp(hard, soft, alpha), hard.detach(), soft.detach())

    return loss


def _distilled(config: LossConfig) -> Loss:
    def loss(logits: Tensor, labels: Tensor, teacher: Tensor | Targets | None = None) -> Terms:
        z = _at_least_float32(logits.detach()).t()
        if not isinstance(teacher, Targets):
            log_p = _log_soft_targets(_required(teacher), config.temperature, z.dtype)
            teacher = Targets(log_p.exp(), log_p)
        terms, gradient = _distillation(z, labels, teacher, config)
        return Terms(_WithGradient.apply(logits, terms.total, gradient), terms.hard, terms.soft)

    return loss


def _distillation(
    z: Float[Tensor, "k n"],
    labels: Labels,
    targets: Targets,
    config: LossConfig,
) -> tuple[Terms, Float[Tensor, "k n"]]:
    """Both terms and the gradient of their sum, without autograd: the fused twin of the readable losses.

    Per sample, dL/dz = (1 - alpha)(p - y) + alpha T_s (p_s - p_t), where T_s is the student's temperature,
    p = softmax(z), p_s = softmax(z / T_s), p_t = softmax(z_t / T) and y is the smoothed label.
    """
    # One column per sample, since a CPU's softmax over rows of ten takes ten times as long. Few different
    # operations, since between the large layers each one's code is read anew: 15 to 30 µs on a CPU.
    classes, n = z.shape
    alpha = config.alpha
    student_temperature = config.temperature if config.temperature_on == "both" else 1.0

    tempered_z = z if student_temperature == 1 else z * _row(1 / student_temperature, z)
    log_tempered = torch.log_softmax(tempered_z, dim=0)
    tempered = log_tempered.exp()
    soft = _inner(targets.p, targets.log_p - log_tempered) * _scalar(student_temperature**2 / n, z)
    weight = alpha * student_temperature / n
    if alpha == 1:
        return Terms(soft, None, soft), tempered.sub_(targets.p).mul_(_row(weight, z))

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
    """Gives a value that was computed without autograd its gradient [k, n] by the logits [n, k]; no second one."""

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
        # Scaled before the cast: a gradient scaler's factor is what keeps it above float16's smallest number.
        return (gradient * grad_outputs[0]).t().to(ctx.dtype), None, None


@lru_cache(maxsize=64)
def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Float[Tensor, ""]:
    # A product with a Python number makes a tensor of it each time.
    return torch.tensor(value, dtype=dtype, device=device)


def _scalar(value: float, like: Tensor) -> Float[Tensor, ""]:
    return _constant(value, like.dtype, like.device)


def _row(value: float, like: Tensor) -> Float[Tensor, " 1"]:
    # Of one dimension, so that a product with logits of half precision is one of `like`'s precision.
    return _constant(value, like.dtype, like.device).view(1)


def _inner(a: Float[Tensor, "k n"], b: Float[Tensor, "k n"]) -> Float[Tensor, ""]:
    return torch.dot(a.view(-1), b.view(-1))


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _required(teacher_logits: Tensor | None) -> Tensor:
    if teacher_logits is None:
        raise ValueError("teacher_logits = None: expected logits [n, k], since alpha > 0. Give a cache.")
    return teacher_logits
