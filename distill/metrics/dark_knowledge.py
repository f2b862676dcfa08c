"""Measure what a network says about the classes that it does not choose.

No measure here changes when all logits of a sample are shifted, as the softmax does not. The "non-target" classes
of a sample are all classes except its label. Memory and time are O(n k).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.class_means import class_means


@dataclass(frozen=True)
class InterclassVariance:
    """Say how much the non-target logits of one sample differ from each other: the inter-class logit variance."""

    total: float
    """Variance over the K-1 non-target logits of a sample (dividing by K-1), averaged over samples."""
    relative: float
    """Value of `total` divided by the mean squared gap, which a change of scale (a temperature) cannot restore."""
    within: float
    """Part of `total` that differs between samples of one class."""
    between: float
    """Part of `total` that all samples of a class have in common; `within` + `between` = `total`."""
    gap: float
    """Logit of the label minus the mean non-target logit, averaged over samples."""


def interclass_variance(logits: Logits, labels: Labels) -> InterclassVariance:
    """Compute the inter-class logit variance: absolute, relative to the squared gap between the correct and the
    mean incorrect logit, and its parts within and between classes.

    With u_ik = z_ik - mean_{j≠y} z_ij for k ≠ y, `total` = mean_i Σ_k u_ik² / (K-1). `between` is this formula for
    the class means of u, and `within` for the deviations from them.
    """
    deviation, gap = _nontarget_deviation(logits, labels)
    nontarget = deviation.shape[1] - 1
    common = class_means(deviation, labels)[labels]
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
    """Return the gap between correct and incorrect logit at the optimum of uniform smoothing, log((1-ε)K/ε + 1).

    It is infinite without smoothing.
    """
    return math.log((1 - smoothing) * classes / smoothing + 1) if smoothing > 0 else math.inf


def nontarget_spread(logits: Logits, labels: Labels) -> Float[Tensor, " k"]:
    """Return the standard deviation of the non-target logits, per class of the label.

    It is the root of the mean over samples of the variance in `interclass_variance`; NaN for a class without
    samples.
    """
    deviation, _ = _nontarget_deviation(logits, labels)
    variance = deviation.square().sum(dim=1, keepdim=True) / (deviation.shape[1] - 1)
    return class_means(variance, labels, deviation.shape[1]).squeeze(1).sqrt()


def equivalent_smoothing(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the smoothing γ whose targets put as much mass on incorrect classes as the teacher's soft targets do.

    γ = mean_i Σ_{k≠y} softmax(z/T)_k · K/(K-1) (Müller et al. 2019, section 4). It is ε for a teacher at the
    optimum of uniform smoothing ε, and 1 for uniform targets.
    """
    classes = logits.shape[1]
    return _wrong_mass(logits, labels, temperature).mean().item() * classes / (classes - 1)


def class_similarity(logits: Logits, labels: Labels, temperature: float = 1.0) -> Float[Tensor, "k k"]:
    """Return the mean distribution over the non-target classes, one row per class of the label.

    The probabilities of each sample are renormalised without its label, then averaged. The diagonal is 0, rows sum
    to 1, and the row of a class without samples is NaN.
    """
    tempered = logits.double() / temperature
    others = torch.softmax(tempered.scatter(1, labels.unsqueeze(1), -math.inf), dim=1)
    return class_means(others, labels, logits.shape[1])


def wrong_class_variance(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the variance of the non-target probabilities at T, over classes (dividing by K-1), mean over samples.

    Li et al. 2022 (asymmetric temperature scaling): large, confident teachers have too little of it.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    return nontarget(p, labels).var(dim=1, correction=0).mean().item()


def difficulty(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return how hard the network finds the samples: the mean of 1 - p_y at temperature T.

    `equivalent_smoothing` is K/(K-1) times as much. Zhao et al. 2022: the target part of distillation passes it on.
    """
    # Rounding may take a sum of almost all of the mass above 1.
    return _wrong_mass(logits, labels, temperature).clamp(max=1).mean().item()


def nontarget_entropy(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the mean entropy at T of the distribution over the non-target classes, in nats.

    It is log(K-1) at most, where the non-target part of distillation (Zhao et al. 2022) has nothing to say.
    """
    others = nontarget(logits.double() / temperature, labels)
    return torch.special.entr(torch.softmax(others, dim=1)).sum(dim=1).mean().item()


def conditional_mutual_information(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return how far predictions lie from their class's mean Q_y: mean_i KL(p_i ‖ Q_y), in nats.

    It estimates I(X;Ŷ|Y), which is what a prediction says about the image beyond its class. It is 0 if all samples
    of a class have one distribution, and at most log K. Ye et al. 2024 measure it on training images.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    centre = class_means(p, labels)[labels]
    # Where p underflows to 0, the mean may too; xlogy(0, 0) is 0.
    return (torch.xlogy(p, p) - torch.xlogy(p, centre)).sum(dim=1).mean().item()


def aggregated_variance(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the squared distance of probabilities to their class mean, averaged by class, then over classes.

    (1/K) Σ_c mean_{i of c} ‖p_i - p̄_c‖² over the classes with samples. Shen et al. 2021 print it in Table
    1 as 1 - S, with S the stability of a teacher.
    """
    p = torch.softmax(logits.double() / temperature, dim=1)
    distance = (p - class_means(p, labels)[labels]).square().sum(dim=1, keepdim=True)
    return class_means(distance, labels).nanmean().item()


def logit_deviation(logits: Logits) -> float:
    """Return the standard deviation over classes (dividing by K-1) of a sample's logits, averaged over samples.

    Sun et al. 2024 (logit standardisation): it acts as the inverse of a temperature.
    """
    return logits.double().std(dim=1).mean().item()


def confusion(logits: Logits, labels: Labels) -> Float[Tensor, "k k"]:
    """Return the confusion matrix: of each class's samples (row), the share predicted as each class (column).

    Rows sum to 1; the row of a class without samples is NaN.
    """
    classes = logits.shape[1]
    return class_means(torch.nn.functional.one_hot(logits.argmax(dim=1), classes).double(), labels, classes)


def similarity_correlation(similarity: Float[Tensor, "k k"], other: Float[Tensor, "k k"]) -> float:
    """Return Spearman's rank correlation of two matrices over classes, off the diagonal.

    Rows with a NaN in either matrix are left out. The result is NaN where either matrix is constant. For
    `class_similarity` and `confusion` it answers: does the network find the classes similar that it confuses?
    O(k² log k).
    """
    from scipy.stats import rankdata  # takes half a second, so a training run that only logs skips it

    off = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    off &= ~(similarity + other).isnan().any(dim=1, keepdim=True)
    both = torch.stack([similarity[off], other[off]]).double().cpu()
    # Equal numbers can differ by rounding, which gives no order.
    if both.shape[1] < 2 or (both.amax(dim=1) - both.amin(dim=1) <= 1e-12 * both.abs().amax(dim=1)).any():
        return math.nan
    return float(np.corrcoef(rankdata(both.numpy(), axis=1))[0, 1])


def similarity_confusion(logits: Logits, labels: Labels, temperature: float = 1.0) -> float:
    """Return the rank correlation of which classes a network finds similar and which classes it confuses."""
    return similarity_correlation(class_similarity(logits, labels, temperature), confusion(logits, labels))


def nontarget(values: Float[Tensor, "n k"], labels: Labels) -> Float[Tensor, "n k-1"]:
    """Return each sample's row without the column of its label; other columns keep their order."""
    kept = torch.ones_like(values, dtype=torch.bool).scatter_(1, labels.unsqueeze(1), False)
    return values[kept].view(len(values), values.shape[1] - 1)


def _wrong_mass(logits: Logits, labels: Labels, temperature: float) -> Float[Tensor, " n"]:
    """Return the mass on the wrong classes, 1 - p_y, of each sample at a temperature."""
    p = torch.softmax(logits.double() / temperature, dim=1)
    # Summing the small numbers keeps the digits that 1 - p_y would lose for a confident network.
    return p.scatter(1, labels.unsqueeze(1), 0.0).sum(dim=1)


def _nontarget_deviation(logits: Logits, labels: Labels) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]:
    """Return logits minus the mean non-target logit (0 at the label), and the label's logit minus this mean."""
    z = logits.double()
    label = labels.unsqueeze(1)
    z = z - z.gather(1, label)  # A large common shift would cost digits in the sum.
    deviation = z - z.sum(dim=1, keepdim=True) / (z.shape[1] - 1)
    gap = deviation.gather(1, label).squeeze(1)
    return deviation.scatter(1, label, 0.0), gap
