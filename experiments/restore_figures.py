"""Draw what remedies against smoothing do to students and to the calibration of their teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Table
from experiments import drawing, restore
from experiments.conditions import OF_LABELS
from experiments.drawing import Axes, Figure


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the answer first."""
    return {
        "remedies": _remedies(table),
        "calibration": _calibration(table),
        "by_temperature": _by_temperature(table),
    }


_LOOKS = dict(
    zip(
        restore.TEACHERS, ((drawing.HARD, "o"), (drawing.SMOOTHED[0], "s"), (drawing.SMOOTHED[1], "^")), strict=True
    )
)
"""Colour and marker of each teacher."""
_GREY = "#555555"
_ROWS = {
    restore.PLAIN: "none (T=4)",
    restore.BEST_T: "T of its own*",
    "standardised": "standardised",
    "DIST": "DIST",
    "DKD": "DKD",
    "WSL": "WSL",
    "decoupled temperatures": "label's own T (ATS)",
    restore.BEST_CHECKPOINT: "checkpoint*",
    restore.BEST_REMEDY: "best of all*",
}
"""Name of each remedy in the figure; * is chosen on held-out images."""


def _remedies(table: Table) -> Figure:
    """Draw a row per remedy, a dot per teacher."""
    figure = drawing.new_figure(
        5.6,
        "Test accuracy of students of few images by what was done about smoothing, best for the smoothed teacher "
        "above: means over seeds with 95 % intervals. Asterisk: chosen per seed on held-out images. A remedy "
        "restores something if it brings the square to the blue lines, and closer to the circle of its own row: "
        "if the circle moves as far, it helps any teacher. Lines: students of the hard teacher without a remedy "
        "and at its best T, and students of labels.",
    )
    axes = figure.subplots()
    rows = {how: mean.mean for how in _ROWS if (mean := _percent(table, restore.student_of(restore.SMOOTHED, how)))}
    if not rows:
        drawing.nothing(axes)
        return figure
    order = sorted(rows, key=lambda how: rows[how])
    for at in range(0, len(order), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="#f4f4f4", linewidth=0, zorder=0)
    for teacher, shift in zip(restore.TEACHERS, (0.25, 0.0, -0.25), strict=True):
        points = {at + shift: _percent(table, restore.student_of(teacher, how)) for at, how in enumerate(order)}
        _dots(axes, {at: point for at, point in points.items() if point}, teacher)
    for condition, style, color, name in (
        (restore.student_of(restore.HARD, restore.PLAIN), "-", drawing.HARD, "ε=0, T=4"),
        (restore.student_of(restore.HARD, restore.BEST_T), "--", drawing.HARD, "ε=0, best T"),
        (OF_LABELS, ":", _GREY, "labels"),
    ):
        if mean := _percent(table, condition):
            axes.axvline(mean.mean, color=color, linestyle=style, linewidth=1.2, label=name, zorder=1)
    axes.set_yticks(range(len(order)), [_ROWS[how] for how in order])
    axes.set_ylim(-0.5, len(order) - 0.5)
    axes.margins(x=0.04)
    axes.set_xlabel("test accuracy of the student, %")
    drawing.open_frame(axes, grid="x")
    drawing.legend_below(figure)
    return figure


def _dots(axes: Axes, points: Mapping[float, Interval], teacher: str) -> None:
    """Draw means with horizontal intervals, each at its height."""
    color, marker = _LOOKS[teacher]
    style: dict[str, Any] = {"linestyle": "none", "markersize": 6, "elinewidth": 1.4, "capsize": 2.5}
    name = f"student of {teacher.removeprefix('teacher ')}"
    drawing.points(axes, points, sideways=True, color=color, marker=marker, label=name, **style)


def _calibration(table: Table) -> Figure:
    """Draw how calibrated the teacher of a good student is."""
    figure = drawing.new_figure(
        4.6,
        "What a remedy costs in calibration: ECE of the teacher (test set, 15 bins, not scaled) against the test "
        "accuracy of its student, means over seeds with 95 % intervals. Filled: student at the T that held-out "
        "images choose; hollow: at T=4, which moves the student and leaves the teacher where it is. A line "
        "follows a teacher's checkpoints, numbered by the fifths of its training, to its end: its students are at "
        "T=4. Best is above on the left.",
    )
    axes = figure.subplots()
    for teacher in restore.TEACHERS:
        _along_training(axes, table, teacher)
        ece = _percent(table, teacher, "ece")
        plain, best = (_percent(table, restore.student_of(teacher, how)) for how in (restore.PLAIN, restore.BEST_T))
        if ece and best:
            _cross(axes, ece, best, teacher, markersize=7, label=f"{teacher}, best T")
        if ece and plain:
            _hollow(axes, ece, plain, teacher, markersize=7)
    if drawing.is_empty(axes):
        return figure
    axes.set(xlabel="ECE of the teacher, %", ylabel="test accuracy of the student, %")
    drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


def _along_training(axes: Axes, table: Table, teacher: str) -> None:
    """Draw the checkpoints of a teacher and their students at T=4, each with its number, if there are any."""
    color, path = _LOOKS[teacher][0], []
    for how, part in sorted(restore.CHECKPOINTS.items(), key=lambda at: at[1]):
        ece, student = (
            _percent(table, teacher, f"ece_part{part}"),
            _percent(table, restore.student_of(teacher, how)),
        )
        if not ece or not student:
            continue
        path.append((ece.mean, student.mean))
        if part < restore.PARTS:  # the end is drawn as the teacher that it is
            _cross(axes, ece, student, teacher, markersize=0, alpha=0.5)
            _hollow(axes, ece, student, teacher, markersize=5)
            axes.annotate(str(part), path[-1], xytext=(5, 5), textcoords="offset points", color=color)
    if len(path) > 1:
        name = f"{teacher}, checkpoints at T=4"
        axes.plot(*zip(*path, strict=True), color=color, linewidth=1, alpha=0.6, zorder=1, label=name)


def _cross(axes: Axes, x: Interval, y: Interval, teacher: str, **look: Any) -> None:
    """Draw a point with its intervals in both directions."""
    color, marker = _LOOKS[teacher]
    bars = {"xerr": drawing.half_width(x), "yerr": drawing.half_width(y)}
    axes.errorbar(x.mean, y.mean, **bars, color=color, marker=marker, linestyle="none", elinewidth=1.2, **look)


def _hollow(axes: Axes, x: Interval, y: Interval, teacher: str, markersize: int) -> None:
    """Draw a hollow point without intervals."""
    color, marker = _LOOKS[teacher]
    axes.plot(x.mean, y.mean, marker, color=color, markersize=markersize, markerfacecolor="white", zorder=3)


def _by_temperature(table: Table) -> Figure:
    """Draw the accuracy of each teacher's students over temperature."""
    figure = drawing.new_figure(
        4.2,
        "Test accuracy of students of few images against the temperature of their soft targets, for three "
        "teachers: means over seeds with 95 % intervals. The loss is plain distillation at T on both sides. "
        "Dotted: students of the labels of the same images.",
    )
    axes = figure.subplots()
    for index, teacher in enumerate(restore.TEACHERS):
        color, marker = _LOOKS[teacher]
        tempered = restore.TEMPERED.items()
        at = {1.04 ** (index - 1) * temperature: restore.student_of(teacher, how) for how, temperature in tempered}
        means = {place: mean for place, student in at.items() if (mean := _percent(table, student))}
        style = {"color": color, "marker": marker, **drawing.BARS}
        drawing.points(axes, means, **style, label=f"students of {teacher}")
    if of_labels := _percent(table, OF_LABELS):
        drawing.level(axes, of_labels, 1, _GREY, ":", OF_LABELS)
    if drawing.is_empty(axes):
        return figure
    drawing.temperatures(axes, restore.TEMPERATURES)
    axes.set(xlabel="temperature T", ylabel="test accuracy of the student, %")
    drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


def _percent(table: Table, condition: str, measure: str = "accuracy") -> Interval | None:
    """Return the mean over seeds of a share, in %, with its interval; None if there is no run."""
    values = table.by_seed(condition, measure).values()
    return interval(100 * value for value in values) if values else None
