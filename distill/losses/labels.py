"""Compute the loss of predictions against labels: cross-entropy with any smoothing, and maximum suppression.

All kinds of smoothing share one formula, which `label_loss` explains. Maximum suppression replaces the smoothed
label by a penalty of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from distill.config import IGNORED, LabelsConfig, LossConfig, SmoothingConvention
from distill.errors import UserError
from distill.losses.adaptive import BySample, sample_factor
from distill.losses.likelihood import log_likelihood
from distill.losses.matrices import Rows, rows_of, smoothed, towards_all
from distill.losses.terms import Labels, at_least_float32


def in_uniform(smoothing: float, convention: SmoothingConvention, classes: int) -> float:
    """Convert the smoothing ε of a convention to the ε of "uniform" (spread over all K classes) with the same
    targets: "others" (spread over the K - 1 wrong classes) gives ε K / (K - 1).

    Raises:
        UserError: the convention is "others" and no uniform ε below 1 gives its targets, since the label would get
            at most 1/K; or it is "maxsup" with an ε above 0, which no smoothed label equals.
    """
    if convention == "uniform" or smoothing == 0:
        return smoothing
    if convention == "maxsup":
        raise UserError(
            "loss.smoothing_convention",
            convention,
            "uniform or others here, since maximum suppression keeps the labels hard",
            "Take losses.label_loss, which knows all three.",
        )
    uniform = smoothing * classes / (classes - 1) if classes > 1 else float("inf")
    if uniform >= 1:
        raise UserError(
            "loss.smoothing",
            smoothing,
            f"less than {1 - 1 / classes:g} over the others of {classes} classes, so that the label gets the most",
            "Lower the smoothing.",
        )
    return uniform


def has_one_smoothing(config: LossConfig) -> bool:
    """Tell whether labels are taught with one smoothing for all classes, samples and steps, without penalties or
    class weights.
    """
    maxsup = config.smoothing_convention == "maxsup" and config.smoothing > 0
    # `on_mixed` only silences a warning; it changes no label.
    return config.labels.replace(on_mixed=False) == LabelsConfig() and not maxsup and not config.class_weights


def label_loss(
    logits: Float[Tensor, "n *t k"],
    labels: Labels,
    smoothing: float = 0.0,
    convention: SmoothingConvention = "uniform",
    *,
    matrix: Float[Tensor, "k k"] | Rows | None = None,
    factor: float = 1.0,
    by_sample: BySample = "none",
    confidence_penalty: float = 0.0,
    ignore_index: int = IGNORED,
    weights: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the loss of logits against labels, in nats, mean over all labels that are not ignored.

    A sample is charged (1 - f) CE(label) + f CE(smoothed label) - λ H(p), where f is the factor of its smoothing.
    The smoothed label is (1-ε)y + ε/K for "uniform" (Müller et al. 2019, section 1). For "others" it is 1-ε for the
    label and ε/(K-1) for each other class (Shen et al. 2021). With a matrix it is the label's row. For a mixed
    label it is the mean of its classes' targets, weighted by their shares. When no position counts, the result is
    NaN, as for `torch.nn.CrossEntropyLoss`.

    Args:
        logits: [n, k], or [n, t, k] with a label per position: the classes come last.
        labels: classes [n] or [n, t], or shares [n, k].
        smoothing: ε, if no matrix is given.
        convention: how ε is spread; "maxsup" is `max_suppression` of that strength.
        matrix: row y is the target of label y (`matrices.smoothed`); rows sum to 1.
        factor: factor of the smoothing at this step (`adaptive.strength`).
        by_sample: which factor of each sample multiplies `factor` (`adaptive.sample_factor`), without gradient.
        confidence_penalty: λ, the weight of the entropy of the answer (Pereyra et al. 2017, section 3).
        ignore_index: a label that does not count, such as padding.
        weights: weight w of each class, as `F.cross_entropy` takes them. A sample is charged Σ w target (-log p),
            and the sum is divided by the weights of the labels, or for shares by the number of samples.

    Raises:
        UserError: the convention is "others" with a smoothing of (K-1)/K or more.
        ValueError: a smoothing is given beside a matrix; a matrix or `by_sample` for maximum suppression; or
            weights for maximum suppression or beside a confidence penalty.
    """
    is_maxsup = convention == "maxsup"
    if weights is not None and (is_maxsup or confidence_penalty):
        raise ValueError("weights: expected none for maximum suppression or beside a confidence penalty.")
    if matrix is not None and smoothing:
        raise ValueError(f"smoothing = {smoothing!r}: expected 0 beside a matrix, which says it all.")
    if is_maxsup and (matrix is not None or by_sample != "none"):
        raise ValueError("convention = 'maxsup': expected neither a matrix nor by_sample.")
    z, labels = _one_row_per_label(logits, labels)
    if is_maxsup:
        return _max_suppression(z, labels, factor * smoothing, confidence_penalty, ignore_index)
    if matrix is None:
        smoothing = in_uniform(factor * smoothing, convention, z.shape[1])
        if not confidence_penalty and (by_sample == "none" or smoothing == 0):
            return F.cross_entropy(z, labels, weights, label_smoothing=smoothing, ignore_index=ignore_index)
        smoothed_labels, factor = float(smoothing), 1.0
    else:
        smoothed_labels = matrix if isinstance(matrix, Rows) else rows_of(matrix, z)
    counts = None if labels.is_floating_point() else labels != ignore_index
    return _of_soft_labels(z, labels, counts, smoothed_labels, factor, by_sample, confidence_penalty, weights)


def _of_soft_labels(
    z: Float[Tensor, "n k"],
    labels: Tensor,
    counts: Tensor | None,
    smoothed_labels: float | Rows,
    factor: float,
    by_sample: BySample,
    confidence_penalty: float,
    weights: Float[Tensor, " k"] | None,
) -> Float[Tensor, ""]:
    """Compute the loss of `label_loss` where targets are written out, a row for each sample."""
    log_p = torch.log_softmax(z.detach(), 1)
    in_range = labels if counts is None else labels.masked_fill(~counts, 0)
    of_sample = factor if by_sample == "none" else factor * sample_factor(by_sample, log_p, in_range)
    targets = _targets(log_p, labels, counts, smoothed_labels, of_sample)
    number = _number_of_counted(z, counts)
    if weights is not None:
        targets.mul_(weights)
        number = number if counts is None else weights[in_range].where(counts, 0).sum()
    return log_likelihood(z, log_p, targets, confidence_penalty, counts) / -number


def cross_entropy(
    logits: Float[Tensor, "n *t k"],
    labels: Labels,
    smoothing: float | Sequence[float] = 0.0,
    convention: SmoothingConvention = "uniform",
    ignore_index: int = IGNORED,
    matrix: Float[Tensor, "k k"] | None = None,
) -> Float[Tensor, ""]:
    """Compute the cross-entropy with smoothed labels, in nats, mean over all labels that are not ignored.

    Arguments are as in `label_loss`; `smoothing` may also be one ε for each class. With one ε the result is
    `F.cross_entropy` with the uniform ε.

    The two conventions differ. One ε gives the label 1 - ε + ε/K in "uniform" and 1 - ε in "others". The targets of
    "others" equal those of the uniform ε K/(K-1), and "others" charges ε/(K-1) (z_label - mean z) more per sample.
    At ten classes and ε = 0.1 the label gets 0.91 or 0.90, and a logit 10 above its equal rivals costs 0.1 more in
    "others".

    Raises:
        UserError: the convention is "others" with a smoothing of (K-1)/K or more, there is not one ε per class, or
            the convention is "maxsup", for which there is `max_suppression`.
        ValueError: a smoothing is given beside a matrix.
    """
    classes = logits.shape[-1]
    if isinstance(smoothing, Sequence):
        if matrix is not None:
            raise ValueError(f"smoothing = {smoothing!r}: expected 0 beside a matrix, which says it all.")
        in_uniform(max(smoothing, default=0.0), convention, classes)
        smoothing, matrix = 0.0, smoothed(smoothing, towards_all(classes), convention, torch.float64)
    elif matrix is None:
        in_uniform(smoothing, convention, classes)
    return label_loss(
        logits,
        labels,
        smoothing,
        "uniform" if convention == "maxsup" else convention,
        matrix=matrix,
        ignore_index=ignore_index,
    )


def max_suppression(
    logits: Float[Tensor, "n *t k"], labels: Labels, strength: float, ignore_index: int = IGNORED
) -> Float[Tensor, ""]:
    """Compute MaxSup: cross-entropy with unsmoothed labels, plus the mean of ε (max_k z_k - mean_k z_k).

    `strength` is ε (Zhou et al. 2025, arXiv 2502.15798). The authors' code for convolutional networks raises ε from
    0.1 to 0.2 in training: schedule linear, smoothing 0.2, first 0.5. Uniform label smoothing is cross-entropy plus
    ε (z_label - mean_k z_k): it suppresses the label's logit even where another one is the largest. The two losses
    agree wherever the network is right. Shapes are as in `label_loss`.
    """
    return label_loss(logits, labels, strength, "maxsup", ignore_index=ignore_index)


def _max_suppression(
    z: Float[Tensor, "n k"], labels: Labels, strength: float, confidence_penalty: float, ignore_index: int
) -> Float[Tensor, ""]:
    # `excess` is computed first, since autograd adds up gradients in the order of computation, and a repeated
    # training has to give the same bits as the stored network.
    excess = z.amax(-1) - z.mean(-1)
    counts = None if labels.is_floating_point() else labels != ignore_index
    number = _number_of_counted(z, counts)
    hard = F.cross_entropy(z, labels, ignore_index=ignore_index)
    counted_excess = excess if counts is None else excess.where(counts, 0)
    loss = hard + strength * (counted_excess.sum() / number)
    if confidence_penalty:
        log_p = torch.log_softmax(z.detach(), 1)
        loss = loss - log_likelihood(z, log_p, None, confidence_penalty, counts) / number
    return loss


def _one_row_per_label(logits: Float[Tensor, "n *t k"], labels: Labels) -> tuple[Float[Tensor, "m k"], Tensor]:
    """Flatten logits to one row per label, and cast them and mixed labels to float32 at least."""
    mixed = labels.is_floating_point()
    if logits.ndim > 2:
        logits, labels = logits.flatten(0, -2), labels.flatten(0, -2) if mixed else labels.flatten()
    z = at_least_float32(logits)
    return z, labels.to(z.dtype) if mixed else labels.long()


def _number_of_counted(z: Float[Tensor, "n k"], counts: Tensor | None) -> int | Tensor:
    """Return the number of labels that are not ignored; `counts` marks them, or is None if none is ignored."""
    return len(z) if counts is None else counts.sum()


def _targets(
    log_p: Float[Tensor, "n k"],
    labels: Tensor,
    counts: Tensor | None,
    smoothed_labels: float | Rows,
    factor: float | Float[Tensor, " n"],
) -> Float[Tensor, "n k"]:
    """Return the targets (1 - f) label + f smoothed label, with f the `factor`, without gradient; an ignored label
    gives zeros.
    """
    classes = log_p.shape[1]
    column = factor.unsqueeze(1) if isinstance(factor, Tensor) else factor
    if counts is None:
        if not isinstance(smoothed_labels, Rows):
            return torch.lerp(labels, torch.full_like(labels, 1 / classes), column * smoothed_labels)
        with torch.autocast(log_p.device.type, enabled=False):
            return torch.lerp(labels, labels @ smoothed_labels.table[:-1], column)
    if isinstance(smoothed_labels, Rows):
        targets = smoothed_labels.table.index_select(0, labels.masked_fill(~counts, classes))
        if column is factor and factor == 1:
            return targets
        targets.mul_(column)
        of_label = (1 - factor) * counts.to(log_p.dtype)
    else:
        weights = counts.to(log_p.dtype)
        share = factor * smoothed_labels * weights
        targets = (share / classes).unsqueeze(1).repeat(1, classes)
        of_label = weights - share
    return targets.scatter_add_(1, labels.masked_fill(~counts, 0).unsqueeze(1), of_label.unsqueeze(1))
