"""The few measures that are watched while a network trains, and its reliability diagram."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from distill.metrics import dark_knowledge
from distill.metrics.accuracy import accuracy, nll
from distill.metrics.calibration import ece, mean_max_probability, reliability

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

_PER_CLASS = 50
"""Knowledge is measured on about so many labels per class, since a short run must not wait for it. What is measured
against the mean of a class comes out smaller by about one part in so many."""


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
    """The same, and what the network knows beyond its answers at T = 1, from the targets it is being taught.

    The equivalent smoothing γ of its own outputs is, at the optimum of its targets, theirs
    (`targets/equivalent_smoothing`). The NLL is on hard labels, so that runs of different smoothing can be compared
    by it; their training losses cannot. Conditional mutual information, aggregated variance, non-target entropy and
    logit deviation (`metrics.catalogue`) are of the last 50 labels per class; those that are not defined are left
    out.
    """
    found = evaluation_measures(logits, labels) | {
        "interclass_variance": dark_knowledge.interclass_variance(logits, labels).total,
        "equivalent_smoothing": dark_knowledge.equivalent_smoothing(logits, labels, 1.0),
    }
    last = slice(-_PER_CLASS * logits.shape[1], None)
    return found | _knowledge(logits[last], labels[last])


def _knowledge(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    values = {
        "conditional_mutual_information": dark_knowledge.conditional_mutual_information(logits, labels),
        "aggregated_variance": dark_knowledge.aggregated_variance(logits, labels),
        "nontarget_entropy": dark_knowledge.nontarget_entropy(logits, labels),
        "logit_deviation": dark_knowledge.logit_deviation(logits),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


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
