"""The few measures that are watched while a network trains, and its reliability diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill.metrics.accuracy import accuracy, nll
from distill.metrics.calibration import ece, mean_max_probability, reliability
from distill.metrics.dark_knowledge import equivalent_smoothing, interclass_variance

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor


def evaluation_measures(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """Accuracy, NLL on hard labels, ECE and mean confidence; empty for no samples."""
    if not len(labels):
        return {}
    return {
        "accuracy": accuracy(logits, labels),
        "nll": nll(logits, labels),
        "ece": ece(logits, labels),
        "confidence": mean_max_probability(logits),
    }


def training_measures(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """The same, inter-class logit variance, and the equivalent smoothing γ of the network's own outputs at T = 1.

    A network at the optimum of its targets has their γ (`targets/equivalent_smoothing`). The NLL is on hard labels,
    so that runs of different smoothing can be compared by it; their training losses cannot.
    """
    return evaluation_measures(logits, labels) | {
        "interclass_variance": interclass_variance(logits, labels).total,
        "equivalent_smoothing": equivalent_smoothing(logits, labels, 1.0),
    }


def calibration_figure(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Any:
    """Reliability diagram as a matplotlib figure: accuracy against confidence, and the diagonal."""
    from matplotlib.figure import Figure

    bins = reliability(logits, labels)
    full = bins.count > 0
    figure = Figure(figsize=(3, 3), dpi=80)
    axes = figure.add_axes((0.18, 0.16, 0.78, 0.74))  # a layout engine would take most of the time
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axes.plot(bins.confidence[full], bins.accuracy[full], marker="o", markersize=3)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"ECE {ece(logits, labels):.3f}", fontsize=9)
    return figure
