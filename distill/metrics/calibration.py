"""Whether the largest probability says how often the network is right (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


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


def reliability(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> Reliability:
    """Accuracy and mean confidence per bin of confidence, the largest probability (Guo et al. 2017, sec. 2)."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    inner_edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=logits.device)[1:-1].contiguous()
    bin_of = torch.bucketize(confidence, inner_edges)
    count = torch.bincount(bin_of, minlength=bins)
    filled = count.clamp(min=1)
    right = (predicted == labels).double()
    return Reliability(
        confidence=torch.bincount(bin_of, weights=confidence, minlength=bins) / filled,
        accuracy=torch.bincount(bin_of, weights=right, minlength=bins) / filled,
        count=count,
    )


def ece(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int = 15) -> float:
    """Expected calibration error Σ_b n_b/n |accuracy_b - confidence_b|, in [0, 1] (Guo et al. 2017, sec. 2)."""
    diagram = reliability(logits, labels, bins)
    share = diagram.count / labels.shape[0]
    return (share * (diagram.accuracy - diagram.confidence).abs()).sum().item()


def mean_max_probability(logits: Float[Tensor, "n k"]) -> float:
    """Mean confidence: the largest probability, averaged over samples."""
    return torch.softmax(logits.double(), dim=1).amax(dim=1).mean().item()


def brier(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """Mean squared distance of probabilities to the one-hot label, summed over classes: 0 to 2 (Brier 1950)."""
    p = torch.softmax(logits.double(), dim=1)
    p_label = p.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (p.square().sum(dim=1) - 2 * p_label + 1).mean().item()
