"""Losses that need labels only: cross-entropy in both conventions of smoothing, and maximum suppression."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.config import LabelsConfig, LossConfig, SmoothingConvention, TeacherConfig
from distill.errors import UserError
from distill.losses.terms import Labels, at_least_float32

_IGNORED = -100


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


def in_uniform(smoothing: float, convention: SmoothingConvention, classes: int) -> float:
    """ε of either convention, in the uniform one.

    Raises:
        UserError: as `uniform_smoothing`; or "maxsup" with an ε above 0, since no smoothed label equals it.
    """
    if convention == "maxsup" and smoothing > 0:
        raise UserError(
            "smoothing_convention",
            convention,
            "uniform or others here, since maximum suppression keeps the labels hard",
            "Take losses.label_loss, which knows all three.",
        )
    return uniform_smoothing(smoothing, classes) if convention == "others" else smoothing


def is_usual(config: TeacherConfig | LossConfig) -> bool:
    """Whether labels are taught with one smoothing for all classes, samples and steps, and nothing beside."""
    maxsup = config.smoothing_convention == "maxsup" and config.smoothing > 0
    return config.labels == LabelsConfig() and not maxsup


def label_loss(
    logits: Float[Tensor, "n *t k"], labels: Labels, smoothing: float, convention: SmoothingConvention
) -> Float[Tensor, ""]:
    """What a network is charged for its labels: `cross_entropy`, or `max_suppression` for "maxsup".

    Raises:
        UserError: as `cross_entropy`.
    """
    if convention == "maxsup":
        return max_suppression(logits, labels, smoothing)
    return cross_entropy(logits, labels, smoothing, convention)


def cross_entropy(
    logits: Float[Tensor, "n *t k"],
    labels: Labels,
    smoothing: float = 0.0,
    convention: SmoothingConvention = "uniform",
) -> Float[Tensor, ""]:
    """Cross-entropy with smoothed labels, in nats, mean over the batch, or over its positions that count.

    Targets are (1-ε)y + ε/K for "uniform" (Müller et al. 2019, section 1), and 1-ε for the label, ε/(K-1) for
    each other class for "others" (Shen et al. 2021). Those of a mixed label are the mean of its classes' targets,
    weighted by their shares. Logits [n, t, k] go with labels [n, t], where -100 marks a position that does not
    count.

    Raises:
        UserError: "others" with a smoothing of (K-1)/K or more; "maxsup", which is `max_suppression`.
    """
    if logits.ndim > 2:
        logits, labels = logits.flatten(0, -2), labels.flatten()
    z = at_least_float32(logits)
    targets = labels.to(z.dtype) if labels.is_floating_point() else labels
    return F.cross_entropy(z, targets, label_smoothing=in_uniform(smoothing, convention, logits.shape[1]))


def max_suppression(logits: Float[Tensor, "n *t k"], labels: Labels, strength: float) -> Float[Tensor, ""]:
    """MaxSup: cross-entropy with the labels as they are, plus ε (max_k z_k - mean_k z_k), mean as there.

    `strength` is ε, here constant (Zhou et al. 2025, arXiv 2502.15798; their code for convolutional nets raises it
    from 0.1 to 0.2 in training). Uniform label smoothing is cross-entropy plus ε (z_label - mean_k z_k): it
    suppresses the label's logit even where another one is the largest. The two agree wherever the network is right.
    Shapes as for `cross_entropy`.
    """
    z = at_least_float32(logits)
    excess = z.amax(-1) - z.mean(-1)
    if logits.ndim > 2:
        counts = labels != _IGNORED
        return cross_entropy(z, labels) + strength * excess.where(counts, 0).sum() / counts.sum()
    return cross_entropy(z, labels) + strength * excess.mean()
