"""Draw the figures that experiments share, from a table of measures; what is missing is not drawn.

A figure's label is its caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from distill.metrics.verdict import interval
from distill.reports.experiment import Table
from experiments import drawing
from experiments.conditions import OF_LABELS, OF_SMOOTHED_LABELS
from experiments.drawing import Axes, Figure

_FROM_LABELS = OF_LABELS, OF_SMOOTHED_LABELS


def nontarget_spread(table: Table) -> Figure:
    """Draw what a teacher says about the wrong classes: spread of their logits per class, and its parts."""
    figure = drawing.new_figure(
        5.8,
        "How much a teacher says beyond its answer. Above: standard deviation of the logits of the incorrect "
        "classes, per class of the image; dots are seeds, bars 95 % intervals. Below, left: their variance, "
        "split into what differs between images of one class (filled) and what is the same for all images of "
        "a class (hatched). Below, right: the variance relative to the squared gap between the correct logit "
        "and the mean of the others, which no temperature can restore.",
    )
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[3, 2])
    _spread_per_class(halves[0, 0].subplots(), table)
    parts, relative = halves[1, 0].subplots(1, 2)
    _variance_parts(parts, table)
    _relative_variance(relative, table)
    return figure


def unseen_recall(table: Table) -> Figure:
    """Draw how well students of each teacher recognise a class that they never saw, against temperature."""
    figure = drawing.new_figure(
        3.5,
        "A class that the student never saw, known to it only through the teacher's soft targets: recall as "
        "trained, recall after one shift of the class's bias, and area under the ROC curve of its margin, with "
        "95 % intervals over seeds. Dotted: students trained from labels, whom no teacher told about the class.",
    )
    panels = (
        ("unseen_recall", "recall as trained, %", 100.0),
        ("unseen_recall_corrected", "recall, bias corrected, %", 100.0),
        ("unseen_auc", "AUC of the margin", 1.0),
    )
    for axes, (measure, title, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        _against_temperature(axes, table, measure, scale)
        drawing.horizontal(axes, table, _FROM_LABELS, measure, scale, ":")
        drawing.heading(axes, title)
        # Near-perfect values need air above them, and zero is where a student without a hint is.
        axes.set_ylim(-0.04 * scale, 1.04 * scale)
    drawing.legend_below(figure)
    return figure


def accuracy_by_temperature(table: Table) -> Figure:
    """Draw the accuracy of each teacher's students against temperature, beside teachers and students of labels."""
    figure = drawing.new_figure(
        4.4,
        "Test accuracy of students against the temperature of their soft targets: means over seeds with 95 % "
        "intervals. Horizontal: the teachers (dashed) and students trained from labels alone (dotted), with "
        "their intervals as bands.",
    )
    axes = figure.subplots()
    _against_temperature(axes, table, "accuracy", 100)
    teachers = [series.teacher for series in drawing.series_of(table)]
    drawing.horizontal(axes, table, teachers, "accuracy", 100, "--")
    drawing.horizontal(axes, table, _FROM_LABELS, "accuracy", 100, ":")
    axes.set_ylabel("test accuracy, %")
    drawing.legend_below(figure)
    return figure


def paired(
    axes: Axes,
    table: Table,
    names: Mapping[str, str],
    measure: str,
    scale: float,
    aside: float = 0.22,
    markersize: float = 5,
) -> None:
    """Put conditions side by side: seeds as dots, joined from one to the next, and means with intervals.

    Args:
        axes: where to draw.
        table: what was measured; what is missing is not drawn.
        names: condition → its name on the x axis.
        measure: name of the measure.
        scale: factor of the measure, 100 for a share in %.
        aside: distance of a mean from its dots.
        markersize: size of a mean's marker.
    """
    values = [table.by_seed(condition, measure) for condition in names]
    scaled = [{seed: scale * value for seed, value in each.items()} for each in values]
    if not any(scaled):
        drawing.nothing(axes)
        return
    for place, (left, right) in enumerate(pairwise(scaled)):
        for seed in sorted(left.keys() & right.keys()):
            axes.plot([place, place + 1], [left[seed], right[seed]], color="#999999", linewidth=0.9, zorder=1)
    for place, (condition, seeds) in enumerate(zip(names, scaled, strict=True)):
        if seeds:
            color, mean = drawing.color_of(condition, table), interval(seeds.values())
            axes.plot([place] * len(seeds), list(seeds.values()), "o", color=color, markersize=4, alpha=0.7)
            beside = place + (aside if place else -aside)  # away from the first line
            half, style = drawing.half_width(mean), {"markersize": markersize, "capsize": 4}
            axes.errorbar(beside, mean.mean, half, fmt="D", color=color, **style)
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.set_xlim(-0.5, len(names) - 0.5)
    drawing.open_frame(axes)


def _spread_per_class(axes: Axes, table: Table) -> None:
    """Draw a group per class: a dot per seed, and the mean with its interval, for each teacher."""
    shown = drawing.series_of(table)
    for index, series in enumerate(shown):
        seeds = drawing.curves(table, series.teacher, "nontarget_spread")
        intervals = [interval(values) for values in zip(*seeds, strict=True)]
        shift = (index - (len(shown) - 1) / 2) * 0.36
        positions = [place + shift for place in range(len(intervals))]
        for values in seeds:
            beside = [place + 0.1 * (1 if shift > 0 else -1) for place in positions]
            axes.plot(beside, values, ".", color=series.color, alpha=0.4, markersize=4)
        if seeds:
            at = dict(zip(positions, intervals, strict=True))
            drawing.points(axes, at, **drawing.look(series), linestyle="none", label=series.teacher)
    if drawing.is_empty(axes):
        return
    crowded = sum(map(len, table.classes)) > 45
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(table.classes)), table.classes, **slanted)
    axes.set(ylabel="std of non-target logits", xlabel="class of the image")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, ncols=len(shown), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    drawing.open_frame(axes)


def _variance_parts(axes: Axes, table: Table) -> None:
    """Draw a stacked bar per teacher: variance within a class, and between classes."""
    for index, series in enumerate(drawing.series_of(table)):
        within = _mean(table, series.teacher, "interclass_variance_within")
        between = _mean(table, series.teacher, "interclass_variance_between")
        if within is None or between is None:
            continue
        axes.barh(index, within, color=series.color, edgecolor=series.color, height=0.6)
        axes.barh(index, between, left=within, facecolor="white", edgecolor=series.color, hatch="////", height=0.6)
    _bars_by_teacher(axes, table, "variance: within + between classes")


def _relative_variance(axes: Axes, table: Table) -> None:
    """Draw a bar per teacher: inter-class variance relative to the squared gap, with its interval."""
    for index, series in enumerate(drawing.series_of(table)):
        if values := table.by_seed(series.teacher, "interclass_variance_relative"):
            mean = interval(values.values())
            half = 100 * drawing.half_width(mean)
            axes.barh(index, 100 * mean.mean, xerr=half, color=series.color, height=0.6, capsize=3)
    _bars_by_teacher(axes, table, "variance / gap², %")


def _bars_by_teacher(axes: Axes, table: Table, title: str) -> None:
    """Finish axes of horizontal bars, the first teacher on top."""
    drawing.heading(axes, title)
    if drawing.is_empty(axes):
        return
    teachers = [series.teacher.removeprefix("teacher ") for series in drawing.series_of(table)]
    axes.set_yticks(range(len(teachers)), teachers)
    axes.set_ylim(len(teachers) - 0.5, -0.5)
    axes.set_xlim(left=0)
    drawing.open_frame(axes, grid="x")


def _against_temperature(axes: Axes, table: Table, measure: str, scale: float) -> None:
    """Draw a line per teacher: its students at each temperature, with intervals."""
    drawing.lines(axes, table, measure, drawing.temperature, lambda at, side: at * (1 + 0.05 * side), scale)
    every = {at for name in table.conditions() if (at := drawing.temperature(name)) is not None}
    if every:
        drawing.temperatures(axes, sorted(every))
        axes.set_xlim(min(every) / 1.3, max(every) * 1.3)
    axes.set_xlabel("temperature")
    drawing.open_frame(axes)


def _mean(table: Table, condition: str, measure: str) -> float | None:
    """Return the mean over seeds of the runs on all classes, if any."""
    values = table.by_seed(condition, measure)
    return interval(values.values()).mean if values else None
