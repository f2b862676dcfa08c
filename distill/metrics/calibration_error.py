"""Whether the largest probability says how often the network is right, and how to mend it (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SORTED = 1 << 20
"""Probabilities that are sorted at a time."""
SHARPEST = 100.0
"""Temperature scaling goes at most so far in either direction, relative to the spread of the logits."""
NORMAL = 1.959963984540054
"""Of a standard normal variable, 95 % lie within this much of 0."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: bins of equal width over (0, 1], each closed on the right.

    An empty bin has count 0, the value 0 for both means, and the interval from 0 to 1.
    """

    confidence: Float[Tensor, " bins"]
    """Mean largest probability of the samples in the bin."""
    accuracy: Float[Tensor, " bins"]
    """Share of them that is right."""
    count: Int[Tensor, " bins"]
    """How many they are."""
    low: Float[Tensor, " bins"]
    """Lower end of the 95 % interval of the accuracy (Wilson 1927)."""
    high: Float[Tensor, " bins"]
    """Upper end."""


@dataclass(frozen=True)
class ByTemperature:
    """What becomes of a network's probabilities when its logits are divided by a temperature, for several."""

    nll: list[float]
    """In nats, per temperature."""
    ece: list[float]
    """In [0, 1], per temperature."""


def reliability(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> Reliability:
    """Accuracy and mean confidence per bin of confidence, the largest probability (Guo et al. 2017, sec. 2)."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    return _diagram(confidence, predicted == labels, bins)


def ece(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Expected calibration error Σ_b n_b/n |accuracy_b - confidence_b|, in [0, 1] (Guo et al. 2017, sec. 2)."""
    return _error(reliability(logits, labels, bins))


def ece_equal_mass(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """The same with bins of equal mass: ranges of confidence that hold equally many samples each.

    In [0, 1] (adaptive binning of Nguyen & O'Connor 2015; the equal-mass ECE of Roelofs et al. 2022). When n is no
    multiple of `bins` their sizes differ by one, and each bin weighs as many samples as it holds. Samples of one
    confidence that lie on both sides of an edge share their right answers evenly, so that the order of samples does
    not matter.
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    return _equal_mass_errors(confidence.unsqueeze(0), (predicted == labels).unsqueeze(0), bins).item()


def ece_classwise(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Calibration error of the probability of each class, averaged over classes, with bins of equal width.

    1/K Σ_k Σ_b n_bk/n |share of class k in b - mean p_k in b|, in [0, 1]: the classwise ECE of Kull et al. (2019,
    section 2) and the static calibration error of Nixon et al. (2019). Most of the probabilities of many classes
    are close to 0 and right, so that it falls as 1/K: compare it only between networks of the same classes.
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
    """The same with ranges of p_k that hold equally many samples each: adaptive calibration error.

    In [0, 1] (ACE, Nixon et al. 2019: 1/(K R) Σ_k Σ_r |share of class k in r - mean p_k in r|). Where n is no
    multiple of the R = `bins` ranges, each weighs as many samples as it holds. Ties as in `ece_equal_mass`.
    """
    p = torch.softmax(logits.double(), dim=1).t()
    own = torch.arange(len(p), device=p.device).unsqueeze(1)
    # Some classes at a time: what sorting needs of all at once is many times the logits.
    at_once = max(1, _SORTED // max(1, p.shape[1]))
    errors = [
        _equal_mass_errors(some.contiguous(), labels == which, bins)
        for some, which in zip(p.split(at_once), own.split(at_once), strict=True)
    ]
    return torch.cat(errors).mean().item()


def by_temperature(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], temperatures: Sequence[float], bins: int = 15
) -> ByTemperature:
    """`accuracy.nll` and `ece` of logits / T for each T, with one exponential per logit and T."""
    of_label, below = _below_largest(logits, labels)
    right = logits.argmax(dim=1) == labels
    found = ByTemperature([], [])
    for temperature in temperatures:
        mass = (below / temperature).exp_().sum(dim=1)  # relative to that of the largest logit
        found.nll.append(mass.log().mean().item() - of_label / temperature)
        found.ece.append(_error(_diagram(1 / mass, right, bins)))
    return found


def mean_max_probability(logits: Float[Tensor, "n k"]) -> float:
    """Mean confidence: the largest probability, averaged over samples."""
    return torch.softmax(logits.double(), dim=1).amax(dim=1).mean().item()


def brier(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Mean squared distance of probabilities to the one-hot label, summed over classes: 0 to 2 (Brier 1950)."""
    p = torch.softmax(logits.double(), dim=1)
    p_label = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (p.square().sum(dim=1) - 2 * p_label + 1).mean().item()


def fit_temperature(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Temperature T that minimises the NLL of softmax(logits / T): temperature scaling (Guo et al. 2017, sec. 4.2).

    Where the slope of the NLL by 1/T is 0 (Brent's method, float64). The NLL is convex in 1/T, where logits enter
    linearly, and not in T or log T: whatever is found is the minimum. Logits are first divided by their spread (the
    root mean square of what remains after each sample's mean is taken off), so that one pair of bounds fits all
    networks, and scaled logits give the scaled temperature. T lies within `SHARPEST` times that spread, either way:
    where every sample is right the NLL falls for ever as T goes to 0, and where logits mislead as T grows, and T is
    the bound. Equal logits have the same NLL at each T, and get 1.

    Args:
        logits: of samples on which the network was not trained.
        labels: their classes.

    Raises:
        ValueError: there is no sample, or a logit is not finite.
    """
    if not len(labels) or not torch.isfinite(logits).all():
        raise ValueError("fit_temperature takes finite logits of one sample or more. Drop what diverged.")
    centred = logits.double() - logits.double().mean(dim=1, keepdim=True)
    spread = centred.square().mean().sqrt().item()
    # What rounding leaves of equal logits is not a spread.
    if spread <= 1e-12 * logits.abs().max().item():
        return 1.0
    of_label, below = _below_largest(centred / spread, labels)

    def slope(inverse: float) -> float:
        """Of the NLL at 1/T: the mean logit that the probabilities expect, less that of the label."""
        weights = (inverse * below).exp_()
        expected = torch.einsum("nk,nk->n", weights, below) / weights.sum(dim=1)
        return expected.mean().item() - of_label

    least, most = 1 / SHARPEST, SHARPEST
    # The slope rises with 1/T: its sign at a bound tells whether the minimum lies beyond.
    if slope(most) <= 0:
        return spread / most
    if slope(least) >= 0:
        return spread / least
    from scipy.optimize import root_scalar  # half a second, which a training run that only logs would wait for

    found = root_scalar(slope, bracket=(least, most), method="brentq", rtol=1e-12)
    return spread / found.root


def _below_largest(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> tuple[float, Float[Tensor, "n k"]]:
    """Logits less the largest of their sample, in float64, and before them the mean of that over the labels'."""
    below = logits.double()
    below = below - below.amax(dim=1, keepdim=True)
    return below.gather(1, labels.unsqueeze(1)).mean().item(), below


def _diagram(confidence: Float[Tensor, " n"], right: Bool[Tensor, " n"], bins: int) -> Reliability:
    """The reliability diagram of predictions with these confidences."""
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
    """Ends of the 95 % interval of shares of so many samples each (Wilson 1927); 0 and 1 where there is none."""
    weight = NORMAL**2 / count.double().clamp(min=1)
    middle = (share + weight / 2) / (1 + weight)
    half = (share * (1 - share) * weight + weight.square() / 4).sqrt() / (1 + weight)
    low, high = (middle - half).clamp(min=0), (middle + half).clamp(max=1)
    return low.where(count > 0, 0.0), high.where(count > 0, 1.0)


def _inner_edges(bins: int, like: Tensor) -> Float[Tensor, " edges"]:
    """Between bins of equal width over (0, 1]."""
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=like.device)[1:-1].contiguous()


def _equal_mass_errors(scores: Float[Tensor, "c n"], hits: Bool[Tensor, "c n"], bins: int) -> Float[Tensor, " c"]:
    """Σ_r |hits in r - sum of scores in r| / n per row, over ranges r of the sorted scores."""
    rows, n = scores.shape
    ordered, order = scores.sort(dim=1)
    inner = torch.arange(1, bins, device=scores.device) * n // bins
    none = scores.new_zeros(rows, 1)
    up_to = torch.cat([none, hits.gather(1, order).double().cumsum(dim=1)], dim=1)
    # An edge may cut through equal scores: what comes before it then has its part of their hits.
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
    """Expected calibration error of a diagram."""
    share = diagram.count / diagram.count.sum()
    return (share * (diagram.accuracy - diagram.confidence).abs()).sum().item()
