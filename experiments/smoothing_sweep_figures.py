"""Draw three uses of smoothing, their picks, and the students of the picked teachers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from distill.metrics.choice import Use
from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Table
from experiments import drawing
from experiments.conditions import HARD, OF_LABELS, student_of, teacher_of
from experiments.drawing import Axes, Figure
from experiments.smoothing_sweep import SMOOTHINGS, TEMPERATURES, USES, choices

_MARKS: dict[Use, tuple[str, str]] = {
    "accuracy": ("D", drawing.SMOOTHED[0]),
    "calibration": ("s", drawing.SMOOTHED[1]),
    "teaching": ("^", drawing.SMOOTHED[2]),
}
_FITTED = "#444444"


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    return {"uses": _uses(table), "students": _students(table), "scaling": _scaling(table)}


def _uses(table: Table) -> Figure:
    figure = drawing.new_figure(
        7.6,
        "Three uses, three answers: accuracy, ECE and relative inter-class variance of the test set over the "
        "smoothing of the network. Marked is what held-out images pick for each use; for teaching, of the "
        "strengths that are not credibly less accurate than the best. Bars: 95 % intervals over seeds.",
    )
    accuracy, ece, variance = figure.subplots(3, 1, sharex=True)
    _line(accuracy, table, teacher_of, "accuracy")
    accuracy.set_ylabel("accuracy, %")
    _line(ece, table, teacher_of, "ece")
    ece.set_ylabel("ECE, %")
    scaled = table.by_seed(HARD, "temperature_ece")
    if scaled:
        height = 100 * interval(scaled.values()).mean
        ece.axhline(height, color=_FITTED, linestyle="--", linewidth=1.4, label="ε=0, after temperature scaling")
    _line(variance, table, teacher_of, "interclass_variance_relative")
    variance.set_ylabel("inter-class variance\nover squared gap, %")
    drawing.logarithmic(ece, (1, 2, 5))
    drawing.logarithmic(variance, (1, 2, 3, 5, 7))
    for axes, use in zip((accuracy, ece, variance), USES, strict=True):
        measure = {"accuracy": "accuracy", "calibration": "ece", "teaching": "interclass_variance_relative"}[use]
        _mark(axes, table, teacher_of, measure, (use,))
    _finish(figure)
    return figure


def _students(table: Table) -> Figure:
    figure = drawing.new_figure(
        6.4,
        "Which teacher has the most accurate students? Test accuracy of students of a tenth of the images over the "
        "smoothing of their teacher, at T = 1 and T = 4. Marked are the teachers that held-out images pick for "
        "each use. Bars and band: 95 % intervals over seeds.",
    )
    panels = figure.subplots(2, 1, sharex=True)
    for axes, temperature in zip(panels, TEMPERATURES, strict=True):
        condition = partial(student_of, temperature=temperature)
        drawing.heading(axes, f"students at T = {temperature:g}")
        _line(axes, table, condition, "accuracy")
        drawing.horizontal(axes, table, [OF_LABELS], "accuracy", 100, "--")
        _mark(axes, table, condition, "accuracy", USES)
        axes.set_ylabel("accuracy of students, %")
    _finish(figure, legend=False)
    drawing.legend_below(figure)
    return figure


def _scaling(table: Table) -> Figure:
    figure = drawing.new_figure(
        5.8,
        "Smoothing and temperature scaling together: ECE of the test set as trained and after scaling by the "
        "temperature that held-out images fit, and that temperature. Below 1, smoothing has softened too much. "
        "Bars: 95 % intervals over seeds.",
    )
    ece, fitted = figure.subplots(2, 1, sharex=True)
    _line(ece, table, teacher_of, "ece", label="as trained")
    _line(ece, table, teacher_of, "temperature_ece", color=_FITTED, marker="s", label="after temperature scaling")
    drawing.logarithmic(ece, (1, 2, 5))
    ece.set_ylabel("ECE, %")
    _line(fitted, table, teacher_of, "temperature_fitted", scale=1, color=_FITTED, marker="s")
    fitted.axhline(1, color="#999999", linewidth=1)
    drawing.logarithmic(fitted, (1, 2, 5))
    fitted.set_ylabel("fitted temperature")
    _finish(figure)
    return figure


def _line(axes: Axes, table: Table, condition: Any, measure: str, scale: float = 100, **style: Any) -> None:
    """Draw a measure over the smoothing, with intervals."""
    look = {"color": drawing.HARD, "marker": "o", **drawing.BARS, **style}
    drawing.points(axes, _means(table, condition, measure), scale, **look)


def _means(table: Table, condition: Any, measure: str) -> dict[float, Interval]:
    return drawing.means(table, measure, {smoothing: condition(smoothing) for smoothing in SMOOTHINGS})


def _mark(axes: Axes, table: Table, condition: Any, measure: str, uses: tuple[Use, ...]) -> None:
    """Mark the picks for some uses on the line of a measure; picks of one strength lie inside each other."""
    means, picked = _means(table, condition, measure), choices(table)
    sizes: dict[float, float] = {}
    for use in uses:
        smoothing = picked[use].smoothing if picked else None
        if smoothing is None or smoothing not in means:
            continue
        marker, color = _MARKS[use]
        size = sizes[smoothing] = sizes.get(smoothing, 14.0) - 4
        style: dict[str, Any] = {"linestyle": "none", "markersize": size, "zorder": 5, "markeredgecolor": "white"}
        name = f"picked for {use}: ε={smoothing:g}"
        axes.plot([smoothing], [100 * means[smoothing].mean], marker=marker, color=color, label=name, **style)


def _finish(figure: Figure, legend: bool = True) -> None:
    for axes in figure.axes:
        drawing.open_frame(axes)
        if legend and axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    figure.axes[-1].set_xlabel("label smoothing ε of the teacher" if not legend else "label smoothing ε")
