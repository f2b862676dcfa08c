"""What a network says about the classes that it does not choose.

All is invariant to a shift of all logits of a sample, as the softmax is. "Non-target" classes of a sample are
all but its label. Memory and time are O(n k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
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
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> float:
    """Smoothing γ whose targets put as much mass on the incorrect classes as the teacher's soft targets do.

    γ = mean_i Σ_{k≠y} softmax(z/T)_k · K/(K-1) (Müller et al. 2019, section 4): ε for a teacher at the optimum
    of uniform smoothing ε, 1 for uniform targets.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
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


def wrong_class_variance(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> float:
    """Variance over the K-1 non-target classes of their probabilities at T (dividing by K-1), mean over samples.

    O(n k). Li et al. 2022 (asymmetric temperature scaling): large, confident teachers have too little of it.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    return nontarget(p, labels).var(dim=1, correction=0).mean().item()


def difficulty(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0) -> float:
    """Mean 1 - p_y at temperature T: how hard the network finds the samples.

    `equivalent_smoothing` is K/(K-1) times as much. O(n k). Zhao et al. 2022: what the target part of
    distillation hands on.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    # Summing the small numbers keeps the digits that 1 - p_y would lose for a confident network.
    return p.scatter(1, labels.unsqueeze(1), 0.0).sum(dim=1).mean().item()


def nontarget_entropy(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0) -> float:
    """Mean entropy at T of the distribution over the non-target classes, in nats.

    log(K-1) at most: then the non-target part of distillation (Zhao et al. 2022) has nothing to say. O(n k).
    """
    others = nontarget(logits.double() / temperature, labels)
    return torch.special.entr(torch.softmax(others, dim=1)).sum(dim=1).mean().item()


def conditional_mutual_information(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> float:
    """Mean_i KL(p_i ‖ Q_y), in nats, with Q_y the mean of p over the samples of the label's class.

    I(X;Ŷ|Y), what a prediction says about the image beyond its class: 0 if all samples of a class have one
    distribution, at most log K. O(n k). Ye et al. 2024, who measure it on training images.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    centre = _class_mean(p, labels)[labels]
    # Where p underflows to 0, so may the mean: that class says nothing.
    return (torch.xlogy(p, p) - torch.xlogy(p, centre)).sum(dim=1).mean().item()


def aggregated_variance(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0) -> float:
    """Squared distance of a sample's probabilities to the mean of its class, averaged by class, then over classes.

    (1/K) Σ_c mean_{i of c} ‖p_i - p̄_c‖² over the classes with samples. O(n k). Shen et al. 2021, who print it in
    Table 1 as 1 - S, with S the stability of a teacher.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    distance = (p - _class_mean(p, labels)[labels]).square().sum(dim=1, keepdim=True)
    return _class_mean(distance, labels, classes=p.shape[1]).nanmean().item()


def logit_deviation(logits: Float[Tensor, "n k"]) -> float:
    """Standard deviation over classes (dividing by K-1) of a sample's logits, averaged over samples.

    O(n k). Sun et al. 2024 (logit standardisation): it acts as the inverse of a temperature.
    """
    return logits.double().std(dim=1).mean().item()


def confusion(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, "k k"]:
    """Share of the samples of class y (row) whose largest logit is that of c (column).

    Rows sum to 1; the row of a class without samples is NaN. O(n k + k²).
    """
    return _class_mean(torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).double(), labels)


def similarity_correlation(similarity: Float[Tensor, "k k"], other: Float[Tensor, "k k"]) -> float:
    """Spearman's rank correlation of two matrices over classes, off the diagonal.

    Rows with a NaN in either are left out. NaN where it is undefined: one of both is constant. Of
    `class_similarity` and `confusion`: does the network find those classes similar that it confuses? O(k² log k).
    """
    from scipy.stats import rankdata  # half a second, which a training run that only logs would wait for

    off = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    off &= ~(similarity + other).isnan().any(dim=1, keepdim=True)
    both = torch.stack([similarity[off], other[off]]).double().cpu()
    # What rounding leaves of equal numbers is no order.
    if both.shape[1] < 2 or (both.amax(dim=1) - both.amin(dim=1) <= 1e-12 * both.abs().amax(dim=1)).any():
        return math.nan
    return float(np.corrcoef(rankdata(both.numpy(), axis=1))[0, 1])


def similarity_confusion(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperature: float = 1.0
) -> float:
    """Rank correlation of the classes that a network finds similar and those that it confuses."""
    return similarity_correlation(class_similarity(logits, labels, temperature), confusion(logits, labels))


def nontarget(values: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n k-1"]:
    """Columns of a sample's row without that of its label, in their order. O(n k)."""
    kept = torch.ones_like(values, dtype=torch.bool).scatter_(1, labels.unsqueeze(1), False)
    return values[kept].view(len(values), values.shape[1] - 1)


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
