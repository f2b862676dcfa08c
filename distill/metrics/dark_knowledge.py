"""What a network says about the classes that it does not choose.

All is invariant to a shift of all logits of a sample, as the softmax is. "Non-target" classes of a sample are
all but its label. Memory and time are O(n k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class InterclassVariance:
    """Inter-class logit variance: how much the non-target logits of one sample differ from each other."""

    total: float
    """Variance over the K-1 non-target logits of a sample (dividing by K-1), averaged over samples."""
    relative: float
    """`total` divided by the mean squared gap: what a change of scale (a temperature) cannot restore."""
    within: float
    """Part that differs between samples of one class."""
    between: float
    """Part that is the same for all samples of a class; `within` + `between` = `total`."""
    gap: float
    """Logit of the label minus the mean non-target logit, averaged over samples."""


def interclass_variance(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> InterclassVariance:
    """Inter-class logit variance, absolute and relative to the squared gap, split within and between classes.

    With u_ik = z_ik - mean_{j≠y} z_ij for k ≠ y: total = mean_i Σ_k u_ik² / (K-1); between is the same of the
    class means of u, and within of the deviations from them.
    """
    deviation, gap = _nontarget_deviation(logits, labels)
    nontarget = deviation.shape[1] - 1
    common = _class_mean(deviation, labels)[labels]
    total = deviation.square().sum(dim=1).mean() / nontarget
    within = (deviation - common).square().sum(dim=1).mean() / nontarget
    between = common.square().sum(dim=1).mean() / nontarget
    return InterclassVariance(
        total=total.item(),
        relative=(total / gap.square().mean()).item(),
        within=within.item(),
        between=between.item(),
        gap=gap.mean().item(),
    )


def optimal_gap(smoothing: float, classes: int) -> float:
    """Gap between correct and incorrect logit at the optimum of uniform smoothing, log((1-ε)K/ε + 1).

    Infinite without smoothing.
    """
    return math.log((1 - smoothing) * classes / smoothing + 1) if smoothing > 0 else math.inf


def nontarget_spread(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " k"]:
    """Standard deviation of the non-target logits, per class of the label; NaN for a class without samples.

    The root of the mean over samples of the variance in `interclass_variance`.
    """
    deviation, _ = _nontarget_deviation(logits, labels)
    variance = deviation.square().sum(dim=1, keepdim=True) / (deviation.shape[1] - 1)
    return _class_mean(variance, labels, classes=deviation.shape[1]).squeeze(1).sqrt()


def equivalent_smoothing(
    teacher_logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float
) -> float:
    """Smoothing γ whose targets put as much mass on the incorrect classes as the teacher's soft targets do.

    γ = mean_i Σ_{k≠y} softmax(z/T)_k · K/(K-1) (Müller et al. 2019, section 4): ε for a teacher at the optimum
    of uniform smoothing ε, 1 for uniform targets.
    """
    p = torch.softmax(teacher_logits.double() / temperature, dim=1)
    # Summing the small numbers keeps the digits that 1 - p_y would lose for a confident teacher.
    incorrect = p.scatter(1, labels.unsqueeze(1), 0.0).sum(dim=1).mean()
    classes = p.shape[1]
    return incorrect.item() * classes / (classes - 1)


def class_similarity(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> Float[Tensor, "k k"]:
    """Mean distribution over the non-target classes, one row per class of the label.

    Each sample's probabilities are renormalised without its label, then averaged; the diagonal is 0, rows sum
    to 1, and the row of a class without samples is NaN.
    """
    tempered = logits.double() / temperature
    nontarget = torch.softmax(tempered.scatter(1, labels.unsqueeze(1), -math.inf), dim=1)
    return _class_mean(nontarget, labels)


def _nontarget_deviation(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Logits minus their non-target mean, 0 at the label; and the label's own, the gap."""
    z = logits.double()
    label = labels.unsqueeze(1)
    z = z - z.gather(1, label)  # A large common shift would cost digits in the sum.
    deviation = z - z.sum(dim=1, keepdim=True) / (z.shape[1] - 1)
    gap = deviation.gather(1, label).squeeze(1)
    return deviation.scatter(1, label, 0.0), gap


def _class_mean(
    rows: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int | None = None
) -> Float[Tensor, "k d"]:
    """Mean row per class; NaN for a class without samples. As many classes as columns, unless given."""
    classes = classes or rows.shape[1]
    sums = rows.new_zeros(classes, rows.shape[1]).index_add_(0, labels, rows)
    return sums / torch.bincount(labels, minlength=classes).unsqueeze(1)
