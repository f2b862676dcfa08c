"""Measure how far confidence, the largest probability of a prediction, is from how often the network is right."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.metrics.arrays import Labels, Logits
from distill.metrics.intervals import wilson

SORTED_AT_ONCE = 1 << 20
"""Number of probabilities that are sorted at a time."""
_ROUNDING = 1e-12
"""Relative difference up to which two probabilities count as equal."""


@dataclass(frozen=True)
class Reliability:
    """Compare accuracy with confidence in bins of equal width over (0, 1], each closed on the right.

    An empty bin has count 0, the value 0 for both means, and the interval from 0 to 1.
    """

    confidence: Float[Tensor, " bins"]
    """Mean largest probability of the samples in the bin."""
    accuracy: Float[Tensor, " bins"]
    """Share of the samples in the bin whose answer is right."""
    count: Int[Tensor, " bins"]
    """Number of samples in the bin."""
    low: Float[Tensor, " bins"]
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: Float[Tensor, " bins"]
    """Upper end of the 95 % interval of the accuracy."""


def reliability(logits: Logits, labels: Labels, bins: int = 15) -> Reliability:
    """Compute the reliability diagram: accuracy and mean confidence per bin (Guo et al. 2017, sec. 2)."""
    return reliability_of(*_confidence(logits, labels), bins)


def reliability_of(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], bins: int) -> Reliability:
    """Compute the reliability diagram of predictions from their confidences and whether they are right."""
    bin_of = torch.bucketize(confidence, _inner_edges(bins, confidence))
    count = torch.bincount(bin_of, minlength=bins)
    filled = count.clamp(min=1)
    accuracy = torch.bincount(bin_of, weights=right.double(), minlength=bins) / filled
    mean = torch.bincount(bin_of, weights=confidence, minlength=bins) / filled
    return Reliability(mean, accuracy, count, *wilson(accuracy, count))


def ece(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Return the expected calibration error Σ_b n_b/n |accuracy_b - confidence_b|, in [0, 1].

    Source: Guo et al. 2017, sec. 2; bins b have equal width.
    """
    return error_of(reliability(logits, labels, bins))


def error_of(diagram: Reliability) -> float:
    """Return the expected calibration error of a reliability diagram."""
    share = diagram.count.double() / diagram.count.sum()
    return (share * (diagram.accuracy - diagram.confidence).abs()).sum().item()


def ece_equal_mass(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Return the expected calibration error with bins that hold equally many samples, in [0, 1].

    This is the adaptive binning of Nguyen & O'Connor (2015) and the equal-mass ECE of Roelofs et al. (2022). When n
    is no multiple of `bins`, sizes of bins differ by one, and each bin weighs as many samples as it holds. Samples
    of equal confidence on both sides of an edge share their right answers evenly, so the order of samples does not
    matter.
    """
    confidence, right = _confidence(logits, labels)
    return _equal_mass_errors(confidence.unsqueeze(0), right.unsqueeze(0), bins).item()


def ece_classwise(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Return the calibration error of each class's probability, averaged over classes, with bins of equal width.

    1/K Σ_k Σ_b n_bk/n |share of class k in b - mean p_k in b|, in [0, 1]: the classwise ECE of Kull et al. (2019,
    section 2) and the static calibration error of Nixon et al. (2019). With many classes, most probabilities are
    close to 0 and right, so the error falls as 1/K. Compare it only between networks of the same classes.
    """
    p = torch.softmax(logits.double(), dim=1).contiguous()
    classes = p.shape[1]
    own = torch.arange(classes, device=p.device)
    bin_of = (torch.bucketize(p, _inner_edges(bins, p)) + bins * own).view(-1)
    surplus = torch.bincount(bin_of, weights=p.view(-1), minlength=bins * classes)
    of_label = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    hits = torch.bucketize(of_label, _inner_edges(bins, p)) + bins * labels
    surplus -= torch.bincount(hits, minlength=bins * classes)
    return surplus.abs().sum().item() / p.numel()


def ece_adaptive(logits: Logits, labels: Labels, bins: int = 15) -> float:
    """Return the classwise calibration error with ranges of p_k that hold equally many samples, in [0, 1].

    This is ACE of Nixon et al. (2019): 1/(K R) Σ_k Σ_r |share of class k in r - mean p_k in r|. Where n is no
    multiple of the R = `bins` ranges, each range weighs as many samples as it holds. Ties are treated as in
    `ece_equal_mass`.
    """
    p = torch.softmax(logits.double(), dim=1).t()
    own = torch.arange(len(p), device=p.device).unsqueeze(1)
    # Some classes are sorted at a time: sorting all at once needs many times the memory of the logits.
    at_once = max(1, SORTED_AT_ONCE // max(1, p.shape[1]))
    errors = [
        _equal_mass_errors(some.contiguous(), labels == which, bins)
        for some, which in zip(p.split(at_once), own.split(at_once), strict=True)
    ]
    return torch.cat(errors).mean().item()


def _confidence(logits: Logits, labels: Labels) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return the largest probability of each sample, and whether its answer is right."""
    confidence, answers = torch.softmax(logits.double(), dim=1).max(dim=1)
    return confidence, answers == labels


def _inner_edges(bins: int, like: Tensor) -> Float[Tensor, " edges"]:
    """Return the edges between bins of equal width over (0, 1]."""
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=like.device)[1:-1].contiguous()


def _equal_mass_errors(scores: Float[Tensor, "c n"], hits: Bool[Tensor, "c n"], bins: int) -> Float[Tensor, " c"]:
    """Compute Σ_r |hits in r - sum of scores in r| / n of each row, for ranges r of its sorted scores."""
    rows, n = scores.shape
    ordered, order = scores.sort(dim=1)
    inner = torch.arange(1, bins, device=scores.device) * n // bins
    none = scores.new_zeros(rows, 1)
    up_to = torch.cat([none, hits.gather(1, order).double().cumsum(dim=1)], dim=1)
    # An edge may cut through equal scores: the samples before it then get their share of the hits of these scores.
    # A softmax rounds equal scores differently when classes change places, so scores about as large count as equal.
    at = ordered[:, inner]
    first = torch.searchsorted(ordered, at * (1 - _ROUNDING), side="left")
    last = torch.searchsorted(ordered, at * (1 + _ROUNDING), side="right")
    hits_first, hits_last = up_to.gather(1, first), up_to.gather(1, last)
    hits_below = hits_first + (hits_last - hits_first) * (inner - first) / (last - first)
    score_below = torch.cat([none, ordered.cumsum(dim=1)], dim=1)
    surplus = torch.cat([none, hits_below, up_to[:, -1:]], dim=1)
    surplus = surplus - torch.cat([none, score_below[:, inner], score_below[:, -1:]], dim=1)
    return surplus.diff(dim=1).abs().sum(dim=1) / n
