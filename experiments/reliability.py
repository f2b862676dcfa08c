"""Draw reliability diagrams: accuracy against confidence, and how often each confidence occurs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from distill.metrics.verdict import interval
from distill.reports.experiment import Table
from experiments import drawing
from experiments.drawing import Axes, Figure

FEW = 50
"""Bins with fewer predictions are drawn pale: the standard error of their accuracy is up to 7 points."""


_BARS = "Bars are Wilson's 95 % intervals for as many predictions as one seed has in the bin."


def reliability(table: Table, caption: str) -> Figure:
    """Draw accuracy against confidence of each network and of the scaled one, and how often each occurs."""
    figure = drawing.new_figure(6.0, f"{caption} {_BARS}")
    shown = [(line, bins) for line in _lines(table) if (bins := _bins(table, line))]
    if not shown:
        drawing.nothing(figure.subplots())
        return figure
    diagram, histogram = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    diagram.plot([0, 1], [0, 1], color="#555555", linestyle=":", linewidth=1)
    for line, bins in shown:
        _draw_line(diagram, histogram, table, line, bins)
    diagram.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    histogram.set_yscale("log")
    histogram.minorticks_off()
    histogram.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
    histogram.set(ylim=(0.5 * min(each.share for _, bins in shown for each in bins), 150), ylabel="predictions, %")
    histogram.set_xlabel("confidence")
    for axes in (diagram, histogram):
        drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


class _Line(NamedTuple):
    """One line of the reliability diagram."""

    condition: str
    prefix: str
    """Prefix of the names of the curves that make up the diagram."""
    measure: str
    """Name of the measure that is its ECE."""
    style: str
    name: str


def _lines(table: Table) -> Iterator[_Line]:
    """Yield each network as it is, and the network of hard labels at its fitted temperature."""
    for series in drawing.series_of(table):
        yield _Line(series.teacher, "reliability", "ece", "-", f"ε={series.smoothing:g}")
        if series.smoothing == 0:
            yield _Line(
                series.teacher, "scaled_reliability", "scaled_ece", "--", f"ε=0, {_fitted(table, series.teacher)}"
            )


def _fitted(table: Table, condition: str) -> str:
    """Say the mean fitted temperature of a network."""
    values = table.by_seed(condition, "scaled_temperature")
    return f"T={interval(values.values()).mean:.2f}" if values else "scaled"


def _named(line: _Line, table: Table) -> str:
    """Name a line in the legend, with its ECE if it was measured."""
    values = table.by_seed(line.condition, line.measure)
    if not values:
        return line.name
    error = interval(values.values())
    half = "" if math.isnan(error.low) else f" ± {100 * drawing.half_width(error):.2f}"
    return f"{line.name}: ECE {100 * error.mean:.2f}{half} %"


def _draw_line(diagram: Axes, histogram: Axes, table: Table, line: _Line, bins: list[_Bin]) -> None:
    """Draw one network: its line with a marker per bin, and its steps in the histogram."""
    color = drawing.color_of(line.condition, table)
    (marker,) = {series.marker for series in drawing.series_of(table) if series.teacher == line.condition}
    accuracies = [each.accuracy for each in bins]
    many = [each.accuracy if each.total >= FEW else math.nan for each in bins]
    for heights, opacity, label in ((accuracies, 0.3, None), (many, 1.0, _named(line, table))):
        style: dict[str, Any] = {"linestyle": line.style, "linewidth": 1.6, "marker": marker, "markersize": 5}
        style["markerfacecolor"] = color if line.style == "-" else "white"
        confidences = [each.confidence for each in bins]
        diagram.plot(confidences, heights, color=color, alpha=opacity, label=label, **style)
    for few in (True, False):
        barred = [each for each in bins if (each.total < FEW) == few]
        places = [each.confidence for each in barred]
        lows, highs = [each.lowest for each in barred], [each.highest for each in barred]
        diagram.vlines(places, lows, highs, color=color, alpha=0.3 if few else 1.0, linewidth=1)
    steps = zip(*((each.share, each.low, each.high) for each in bins), strict=True)
    histogram.hlines(*steps, color=color, linestyle=line.style, linewidth=1.6)


class _Bin(NamedTuple):
    """One bin of confidence over all seeds, not empty."""

    low: float
    high: float
    confidence: float
    """Mean over its predictions."""
    accuracy: float
    lowest: float
    """Lower end of the accuracy's 95 % interval. Seeds see the same images, so it counts each image once."""
    highest: float
    """Upper end."""
    total: float
    """Predictions in the bin."""
    share: float
    """Predictions in the bin, in % of all."""


def _bins(table: Table, line: _Line) -> list[_Bin]:
    """Return the bins of a reliability diagram that are not empty, every seed weighed by its count."""
    counts, confidences, accuracies = (
        drawing.curves(table, line.condition, f"{line.prefix}_{part}")
        for part in ("count", "confidence", "accuracy")
    )
    every = sum(map(sum, counts))
    bins = []
    for place in range(len(counts[0]) if counts else 0):
        weights = [seed[place] for seed in counts]
        if total := sum(weights):
            confidence, accuracy = (
                sum(weight * seed[place] for weight, seed in zip(weights, part, strict=True)) / total
                for part in (confidences, accuracies)
            )
            edges = place / len(counts[0]), (place + 1) / len(counts[0])
            ends = _interval(accuracy, total / len(counts))
            bins.append(_Bin(*edges, confidence, accuracy, *ends, total, 100 * total / every))
    return bins


def _interval(accuracy: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of the accuracy of `count` predictions."""
    import torch

    from distill.metrics.intervals import wilson

    low, high = wilson(torch.tensor(accuracy, dtype=torch.float64), torch.tensor(count, dtype=torch.float64))
    return low.item(), high.item()
