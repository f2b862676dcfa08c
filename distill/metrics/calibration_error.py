"""Measure whether confidence says how often a network is right, and fit a temperature (Guo et al. 2017).

Confidence is the largest probability of a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SORTED = 1 << 20
"""Number of probabilities that are sorted at a time."""
SHARPEST = 100.0
"""Largest factor between a fitted temperature and the spread of the logits, in either direction."""
NORMAL = 1.959963984540054
"""Number of standard deviations around the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: bins of equal width over (0, 1], each closed on the right.

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


@dataclass(frozen=True)
class ByTemperature:
    """NLL and ECE of a network after its logits are divided by each of several temperatures."""

    nll: list[float]
    """NLL in nats, per temperature."""
    ece: list[float]
    """ECE in [0, 1], per temperature."""


def reliability(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> Reliability:
    """Compute accuracy and mean confidence per bin of confidence (Guo et al. 2017, sec. 2)."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    return _diagram(confidence, predicted == labels, bins)


def ece(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Return the expected calibration error Σ_b n_b/n |accuracy_b - confidence_b|, in [0, 1].

    Source: Guo et al. 2017, sec. 2; bins b have equal width.
    """
    return _error(reliability(logits, labels, bins))


def ece_equal_mass(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Return the expected calibration error with bins of equal mass, each holding equally many samples; in [0, 1].

    This is the adaptive binning of Nguyen & O'Connor (2015) and the equal-mass ECE of Roelofs et al. (2022). When n
    is no multiple of `bins`, sizes of bins differ by one, and each bin weighs as many samples as it holds. Samples
    of equal confidence on both sides of an edge share their right answers evenly, so the order of samples does not
    matter.
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    return _equal_mass_errors(confidence.unsqueeze(0), (predicted == labels).unsqueeze(0), bins).item()


def ece_classwise(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
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


def ece_adaptive(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Return the classwise calibration error with ranges of p_k that hold equally many samples; in [0, 1].

    This is ACE of Nixon et al. (2019): 1/(K R) Σ_k Σ_r |share of class k in r - mean p_k in r|. Where n is no
    multiple of the R = `bins` ranges, each range weighs as many samples as it holds. Ties are treated as in
    `ece_equal_mass`.
    """
    p = torch.softmax(logits.double(), dim=1).t()
    own = torch.arange(len(p), device=p.device).unsqueeze(1)
    # Some classes are sorted at a time: sorting all at once needs many times the memory of the logits.
    at_once = max(1, _SORTED // max(1, p.shape[1]))
    errors = [
        _equal_mass_errors(some.contiguous(), labels == which, bins)
        for some, which in zip(p.split(at_once), own.split(at_once), strict=True)
    ]
    return torch.cat(errors).mean().item()


def by_temperature(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperatures: Sequence[float], bins: int = 15
) -> ByTemperature:
    """Return `accuracy.nll` and `ece` of logits / T for each T, with one exponential per logit and T."""
    of_label, below = _below_largest(logits, labels)
    right = logits.argmax(dim=1) == labels
    found = ByTemperature([], [])
    for temperature in temperatures:
        mass = (below / temperature).exp_().sum(dim=1)  # relative to the mass of the largest logit
        found.nll.append(mass.log().mean().item() - of_label / temperature)
        found.ece.append(_error(_diagram(1 / mass, right, bins)))
    return found


def mean_max_probability(logits: Float[Tensor, "n k"]) -> float:
    """Return the mean confidence: the largest probability, averaged over samples."""
    return torch.softmax(logits.double(), dim=1).amax(dim=1).mean().item()


def brier(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Return the mean squared distance of probabilities to the one-hot label, summed over classes: 0 to 2.

    Source: Brier 1950.
    """
    p = torch.softmax(logits.double(), dim=1)
    p_label = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (p.square().sum(dim=1) - 2 * p_label + 1).mean().item()


def fit_temperature(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Find the temperature T that minimises the NLL of softmax(logits / T) (Guo et al. 2017, sec. 4.2).

    This is temperature scaling, in float64. T lies within a factor `SHARPEST` of the spread of the logits, either
    way. The spread is the root mean square of the logits after each sample's mean is taken off. T is at a bound
    where every sample is right, since the NLL then falls for ever as T goes to 0, and where logits mislead, since
    it then falls as T grows. Scaled logits give the scaled temperature. Equal logits have the same NLL at each T,
    and get T = 1.

    Args:
        logits: of samples on which the network was not trained.
        labels: classes of the samples.

    Raises:
        ValueError: there is no sample, or a logit is not finite.
    """
    if not len(labels) or not torch.isfinite(logits).all():
        raise ValueError("fit_temperature takes finite logits of one sample or more. Drop what diverged.")
    centred = logits.double() - logits.double().mean(dim=1, keepdim=True)
    # Logits are divided by their spread, so that one pair of bounds fits all networks.
    spread = centred.square().mean().sqrt().item()
    # Equal logits can have a spread from rounding alone, which does not count.
    if spread <= 1e-12 * logits.abs().max().item():
        return 1.0
    of_label, below = _below_largest(centred / spread, labels)

    def slope(inverse: float) -> float:
        """Compute the derivative of the NLL by 1/T at the given 1/T.

        It is the mean logit that the probabilities expect, less the mean logit of the label.
        """
        weights = (inverse * below).exp_()
        expected = torch.einsum("nk,nk->n", weights, below) / weights.sum(dim=1)
        return expected.mean().item() - of_label

    least, most = 1 / SHARPEST, SHARPEST
    # The slope rises with 1/T: its sign at a bound tells whether the minimum lies beyond.
    if slope(most) <= 0:
        return spread / most
    if slope(least) >= 0:
        return spread / least
    # The NLL is convex in 1/T, which scales the logits linearly, though not in T or log T. So a zero of the slope
    # is the minimum.
    from scipy.optimize import root_scalar  # takes half a second, so a training run that only logs skips it

    found = root_scalar(slope, bracket=(least, most), method="brentq", rtol=1e-12)
    return spread / found.root


def _below_largest(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> tuple[float, Float[Tensor, "n k"]]:
    """Return the mean of the labels' logits and all logits, each less the largest of its sample, in float64."""
    below = logits.double()
    below = below - below.amax(dim=1, keepdim=True)
    return below.gather(1, labels.unsqueeze(1)).mean().item(), below


def _diagram(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], bins: int) -> Reliability:
    """Make the reliability diagram of predictions with the given confidences."""
    bin_of = torch.bucketize(confidence, _inner_edges(bins, confidence))
    count = torch.bincount(bin_of, minlength=bins)
    filled = count.clamp(min=1)
    accuracy = torch.bincount(bin_of, weights=right.double(), minlength=bins) / filled
    low, high = wilson(accuracy, count)
    return Reliability(
        confidence=torch.bincount(bin_of, weights=confidence, minlength=bins) / filled,
        accuracy=accuracy,
        count=count,
        low=low,
        high=high,
    )


def wilson(
    share: Float[Tensor, "..."], count: Float[Tensor, "..."] | Int[Tensor, "..."]
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Return the ends of the 95 % interval of each share of `count` samples; 0 and 1 where there is no sample.

    Source: Wilson 1927.
    """
    weight = NORMAL**2 / count.double().clamp(min=1)
    middle = (share + weight / 2) / (1 + weight)
    half = (share * (1 - share) * weight + weight.square() / 4).sqrt() / (1 + weight)
    low, high = (middle - half).clamp(min=0), (middle + half).clamp(max=1)
    return low.where(count > 0, 0.0), high.where(count > 0, 1.0)


def _inner_edges(bins: int, like: Tensor) -> Float[Tensor, " edges"]:
    """Return the edges between bins of equal width over (0, 1]."""
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=like.device)[1:-1].contiguous()


def _equal_mass_errors(scores: Float[Tensor, "c n"], hits: Bool[Tensor, "c n"], bins: int) -> Float[Tensor, " c"]:
    """Compute Σ_r |hits in r - sum of scores in r| / n for each row, over ranges r of its sorted scores."""
    rows, n = scores.shape
    ordered, order = scores.sort(dim=1)
    inner = torch.arange(1, bins, device=scores.device) * n // bins
    none = scores.new_zeros(rows, 1)
    up_to = torch.cat([none, hits.gather(1, order).double().cumsum(dim=1)], dim=1)
    # An edge may cut through equal scores: the samples before it then get their share of the hits of these scores.
    at = ordered[:, inner].contiguous()
    first, last = (torch.searchsorted(ordered, at, side=side) for side in ("left", "right"))
    hits_first, hits_last = up_to.gather(1, first), up_to.gather(1, last)
    hits_below = hits_first + (hits_last - hits_first) * (inner - first) / (last - first)
    score_below = torch.cat([none, ordered.cumsum(dim=1)], dim=1)
    all_hits, all_scores = up_to[:, -1:], score_below[:, -1:]
    surplus = torch.cat([none, hits_below, all_hits], dim=1) - torch.cat(
        [none, score_below[:, inner], all_scores], dim=1
    )
    return surplus.diff(dim=1).abs().sum(dim=1) / n


def _error(diagram: Reliability) -> float:
    """Return the expected calibration error of a diagram."""
    share = diagram.count / diagram.count.sum()
    return (share * (diagram.accuracy - diagram.confidence).abs()).sum().item()
