"""Whether the largest probability says how often the network is right, and how to mend it (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SHARPEST = 100.0
"""Temperature scaling goes at most so far in either direction, relative to the spread of the logits."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: bins of equal width over (0, 1], each closed on the right.

    An empty bin has count 0 and the value 0 for both means.
    """

    confidence: Float[Tensor, " bins"]
    """Mean largest probability of the samples in the bin."""
    accuracy: Float[Tensor, " bins"]
    """Share of them that is right."""
    count: Int[Tensor, " bins"]
    """How many they are."""


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
    inner_edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=confidence.device)[1:-1].contiguous()
    bin_of = torch.bucketize(confidence, inner_edges)
    count = torch.bincount(bin_of, minlength=bins)
    filled = count.clamp(min=1)
    return Reliability(
        confidence=torch.bincount(bin_of, weights=confidence, minlength=bins) / filled,
        accuracy=torch.bincount(bin_of, weights=right.double(), minlength=bins) / filled,
        count=count,
    )


def _error(diagram: Reliability) -> float:
    """Expected calibration error of a diagram."""
    share = diagram.count / diagram.count.sum()
    return (share * (diagram.accuracy - diagram.confidence).abs()).sum().item()
