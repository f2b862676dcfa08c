"""Draw a reliability diagram: accuracy with intervals against confidence, and how often each confidence occurs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from distill.metrics.calibration_error import Reliability

COLORS = ("#0072B2", "#D55E00")
"""Colours of the first and the second network (Okabe and Ito's palette: safe for colour-blind readers)."""
_MARKERS = ("o", "s")


def draw_reliability(diagram: Axes, histogram: Axes, bins: Reliability, place: int = 0, name: str = "") -> None:
    """Draw one network: accuracy with its 95 % interval, and the share of samples, in each bin of confidence.

    Args:
        diagram: axes on which accuracy is drawn.
        histogram: axes on which shares are drawn, in %.
        bins: diagram to draw; empty bins are left out.
        place: 0 for the first or 1 for the second of two networks.
        name: name of the network for a legend.
    """
    full = bins.count > 0
    at, height = bins.confidence[full], bins.accuracy[full]
    # The share of right answers lies within its Wilson interval, but rounding can put it outside by 1e-17.
    around = [(height - bins.low[full]).clamp(min=0).tolist(), (bins.high[full] - height).clamp(min=0).tolist()]
    color, marker = COLORS[place], _MARKERS[place]
    diagram.errorbar(
        at.tolist(),
        height.tolist(),
        around,
        color=color,
        marker=marker,
        markersize=4,
        linewidth=1.4,
        elinewidth=1,
        capsize=2,
        label=name or None,
    )
    width = 1 / len(bins.count)
    left = [index * width for index, some in enumerate(full.tolist()) if some]
    shares = (100 * bins.count[full] / bins.count.sum()).tolist()
    right = [low + width for low in left]
    histogram.hlines(shares, left, right, color=color, linewidth=1.8, linestyle="--" if place else "-")


def frame(diagram: Axes, histogram: Axes) -> None:
    """Set up a reliability diagram and its histogram, with the diagonal on which accuracy equals confidence."""
    diagram.plot([0, 1], [0, 1], color="#555555", linestyle=":", linewidth=1)
    diagram.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    diagram.tick_params(labelbottom=False)
    histogram.set_yscale("log")
    histogram.minorticks_off()
    histogram.set_yticks([0.01, 1, 100], ["0.01", "1", "100"])
    histogram.set(xlim=(0, 1), ylim=(0.005, 200), xlabel="confidence", ylabel="samples, %")
    for axes in (diagram, histogram):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
