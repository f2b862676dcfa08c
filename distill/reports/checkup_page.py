"""Draw the figures of a check-up, and write its page: one HTML file, figures first."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distill.metrics.calibration_error import reliability
from distill.metrics.dark_knowledge import class_similarity
from distill.metrics.diagram import COLORS, draw_reliability, frame
from distill.metrics.smoothing_estimate import gaps_of
from distill.reports.pages import Drawing, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_CLASSES = 30
"""Largest number of classes in the picture of class similarity."""


class Shown(NamedTuple):
    """Hold what a page shows of one teacher."""

    name: str
    logits: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    found: Mapping[str, Any]
    """The check-up as JSON has it."""


def write_page(shown: Sequence[Shown]) -> str:
    """Return the page of one teacher, or of two beside each other."""
    drawings = [_gaps(shown), _reliability(shown), _gamma(shown)]
    drawings += [_similarity(each) for each in shown if len(each.classes) > 2]
    return render("checkup.html.j2", {"checkups": [each.found for each in shown], "drawings": drawings})


def _gaps(shown: Sequence[Shown]) -> Drawing:
    """Draw where the gaps of right answers pile up, and the interval that the estimate rests on."""
    figure = _new(3.2)
    axes = figure.subplots()
    for place, each in enumerate(shown):
        right = each.logits.argmax(dim=1) == each.labels
        pile = each.found["numbers"]["smoothing"]["pile"]
        gaps = gaps_of(each.logits[right], each.labels[right]).tolist()
        axes.hist(gaps, bins=60, color=COLORS[place], alpha=0.6, label=each.name)
        axes.axvline(pile["middle"], color=COLORS[place], linewidth=1.5)
    axes.set(xlabel="gap: log-odds of the answer against an average wrong class", ylabel="images")
    if len(shown) > 1:
        axes.legend(frameon=False)
    return _drawing(
        figure,
        "gaps",
        "Gaps of right answers. Smoothed labels pile them up at log((1-ε)K/ε + 1); the line is their middle.",
    )


def _reliability(shown: Sequence[Shown]) -> Drawing:
    """Draw accuracy against confidence."""
    figure = _new(4.2)
    diagram, histogram = figure.subplots(2, 1, height_ratios=(3, 1))
    frame(diagram, histogram)
    for place, each in enumerate(shown):
        draw_reliability(diagram, histogram, reliability(each.logits, each.labels), place, each.name)
    if len(shown) > 1:
        diagram.legend(frameon=False)
    return _drawing(
        figure,
        "reliability",
        "Accuracy against confidence, with 95 % intervals: above the dots it is too unsure, below too sure.",
    )


def _gamma(shown: Sequence[Shown]) -> Drawing:
    """Draw the equivalent smoothing of soft targets against their temperature."""
    figure = _new(3.0)
    axes = figure.subplots()
    for place, each in enumerate(shown):
        rows = each.found["numbers"]["gamma"]
        places, heights = [row["temperature"] for row in rows], [row["gamma"] for row in rows]
        axes.plot(places, heights, marker="o", markersize=4, color=COLORS[place], label=each.name)
    axes.set(xscale="log", xlabel="temperature T", ylabel="equivalent smoothing γ", ylim=(0, 1))
    ticks = [1, 2, 4, 8, 16]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    if len(shown) > 1:
        axes.legend(frameon=False)
    return _drawing(
        figure,
        "gamma",
        "Share of soft targets on wrong classes, γ, against the temperature: 0 is a hard label, 1 is even.",
    )


def _similarity(shown: Shown) -> Drawing:
    """Draw how the mass on wrong classes is shared, per class of the label."""
    most = min(len(shown.classes), _CLASSES)
    figure = _new(5.2)
    axes = figure.subplots()
    drawn = axes.imshow(class_similarity(shown.logits, shown.labels)[:most, :most].numpy(), cmap="Blues", vmin=0)
    names = [name[:14] for name in shown.classes[:most]]
    axes.set_xticks(range(most), names, rotation=90, fontsize=7)
    axes.set_yticks(range(most), names, fontsize=7)
    axes.set(xlabel="wrong class", ylabel="label")
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    part = f" The first {most} of {len(shown.classes)} classes." if most < len(shown.classes) else ""
    return _drawing(
        figure,
        "similarity",
        f"Which wrong classes {shown.name} finds alike: the share of each, without the label, at T = 1.{part}",
    )


def _new(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), layout="constrained")


def _drawing(figure: Figure, name: str, caption: str) -> Drawing:
    """Turn a figure into an SVG image for the page."""
    import matplotlib

    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Drawing(name, caption, base64.b64encode(file.getvalue()).decode())
