"""Compute the few measures that are watched while a network trains, and draw two figures of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill.metrics.calibration_error import ece, reliability
from distill.metrics.measures import MEASURES, Measure, compute, defined

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

# A short run must not wait for these measures. Values relative to the mean of a class come out smaller by about one
# part in 50.
_PER_CLASS = 50
"""Number of labels per class, about, on which "recent" measures are taken."""
_LINES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("train/accuracy", "accuracy", {"color": "#009E73", "marker": "s"}),
    ("train/confidence", "confidence (largest probability)", {"color": "#0072B2", "marker": "o"}),
    ("train/confidence_ceiling", "ceiling: if it gave its targets", {"color": "black", "linestyle": "--"}),
)
"""Lines of the confidence figure: logged name, label, and style.

Colours are Okabe and Ito's, safe for colour-blind readers.
"""


def evaluation_measures(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """Compute the measures that are logged at every evaluation; without samples there are none."""
    return compute(_watched("evaluation"), logits=logits, labels=labels) if len(labels) else {}


def training_measures(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """Compute the measures that are logged of training data, at temperature 1.

    The equivalent smoothing γ of the network's outputs equals that of its targets (`targets/equivalent_smoothing`)
    at the optimum. The NLL is on hard labels, so it compares runs of different smoothing, which their training
    losses cannot. "recent" measures are of the last 50 labels per class; undefined ones are left out.
    """
    last = slice(-_PER_CLASS * logits.shape[1], None)
    of_all = compute([*_watched("evaluation"), *_watched("training")], logits=logits, labels=labels)
    return of_all | defined(compute(_watched("recent"), logits=logits[last], labels=labels[last]))


def _watched(where: str) -> list[Measure]:
    return [each for each in MEASURES if each.watched == where]


def confidence_figure(points: Sequence[Mapping[str, float]]) -> Any:
    """Draw confidence and accuracy on training data over steps, as a matplotlib figure with a dashed ceiling.

    `points` are rows of `metrics.jsonl`: `step`, `train/confidence`, `train/accuracy`, `train/confidence_ceiling`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3), dpi=80)
    axes = figure.add_axes((0.13, 0.17, 0.84, 0.73))
    steps = [point["step"] for point in points]
    for name, label, style in _LINES:
        axes.plot(steps, [point[name] for point in points], label=label, markersize=3, **style)
    axes.set(xlabel="step", ylabel="mean over training data", ylim=(0, 1.05))
    # Few ticks, since they take most of the time.
    axes.set(xticks=(0, steps[-1] // 2, steps[-1]), yticks=(0, 0.25, 0.5, 0.75, 1))
    axes.legend(loc="lower right", fontsize=9)
    last = points[-1]
    reached, asked = last["train/confidence"], last["train/confidence_ceiling"]
    axes.set_title(f"confidence ends at {reached:.3f}, its targets ask for {asked:.3f}", fontsize=10)
    return figure


def calibration_figure(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Any:
    """Draw the reliability diagram as a matplotlib figure: accuracy against confidence, and how often each occurs.

    Intervals are Wilson's, of 95 %, over the samples of a bin.
    """
    from matplotlib.figure import Figure

    from distill.metrics.diagram import draw_reliability, frame

    figure = Figure(figsize=(3.2, 3.8), dpi=80)
    # A layout engine would take most of the time.
    diagram, histogram = figure.add_axes((0.2, 0.38, 0.75, 0.55)), figure.add_axes((0.2, 0.13, 0.75, 0.2))
    draw_reliability(diagram, histogram, reliability(logits, labels))
    frame(diagram, histogram)
    # Few ticks, since they take most of the time.
    diagram.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    histogram.set_xticks((0, 0.5, 1))
    diagram.set_title(f"ECE {100 * ece(logits, labels):.2f} %", fontsize=9)
    return figure
