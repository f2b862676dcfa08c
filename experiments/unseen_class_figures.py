"""Draw what students know of classes that they never saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.metrics.verdict import interval
from distill.reports.experiment import Table
from experiments import drawing, figures
from experiments.drawing import Axes, Figure
from experiments.unseen_class import PAIRS, TEMPERATURES, distilled_of, of_labels, only


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    return {
        "unseen_recall": _by_class(table),
        "over_temperature": figures.unseen_recall(table),
        "pairs": _pairs(table),
    }


_OF_LABELS_COLOR = "#777777"
_MEASURES_OF_PAIRS = (
    ("pair_accuracy_corrected", "all classes, bias corrected"),
    ("unseen_among_unseen", "unseen classes among themselves"),
)


def _by_class(table: Table) -> Figure:
    """Draw corrected recall of each class by students that never saw it, a panel per temperature."""
    classes = sorted({label.unseen for label in table.values if label.unseen is not None})
    classes.sort(key=lambda cls: -_told(table, cls))
    figure = drawing.new_figure(
        1.7 + 0.32 * max(len(classes), 3),
        "Which classes can a student know without one image of them? Recall of a class that was left out of the "
        "transfer set, after one shift of its bias that makes it be answered as often as it occurs: means over "
        "seeds with 95 % intervals, the class that students of teachers know best on top. Grey: students of "
        "labels, whom no teacher told about the class.",
    )
    row = figure.subplots(1, len(TEMPERATURES), sharey=True)
    for axes, temperature in zip(row, TEMPERATURES, strict=True):
        drawing.heading(axes, f"T = {temperature:g}")
        if not classes:
            drawing.nothing(axes)
            continue
        style: dict[str, Any] = {"color": _OF_LABELS_COLOR, "marker": "|", "label": "students of labels"}
        _dots(axes, table, of_labels(), classes, -0.22, **style, markersize=8)
        for shift, series in enumerate(drawing.series_of(table)):
            style = {"color": series.color, "marker": series.marker, "label": f"students of {series.teacher}"}
            condition = distilled_of(series.smoothing, temperature)
            _dots(axes, table, condition, classes, 0.22 * shift, **style, markersize=5)
        for place in range(1, len(classes)):
            axes.axhline(place - 0.5, color="#e3e3e3", linewidth=0.8)
        axes.set_xlim(-4, 104)
        axes.set_xticks([0, 50, 100])
        axes.set_xlabel("recall, %")
        drawing.open_frame(axes, grid="x")
    if classes:
        row[0].set_yticks(range(len(classes)), [_name(table, cls) for cls in classes])
        row[0].set_ylim(len(classes) - 0.5, -0.5)
    drawing.legend_below(figure)
    return figure


def _name(table: Table, cls: int) -> str:
    return table.classes[cls] if cls < len(table.classes) else str(cls)


def _told(table: Table, cls: int) -> float:
    """Return the mean corrected recall of a class over all students of teachers that never saw it."""
    students = [condition for condition in table.conditions() if condition != of_labels()]
    recalls = _recalls(table, cls, *students)
    return sum(recalls) / len(recalls) if recalls else 0.0


def _recalls(table: Table, cls: int, *conditions: str) -> list[float]:
    """Return the corrected recall of a class by each of the students that never saw it."""
    runs = [
        values for label, values in table.values.items() if label.unseen == cls and label.condition in conditions
    ]
    return [values["unseen_recall_corrected"] for values in runs if "unseen_recall_corrected" in values]


def _dots(axes: Axes, table: Table, condition: str, classes: list[int], shift: float, **style: Any) -> None:
    """Draw a dot per class with its interval over seeds, a little below the middle of its row."""
    means = {}
    for row, cls in enumerate(classes):
        if values := _recalls(table, cls, condition):
            means[row + shift] = interval(values)
    drawing.points(axes, means, 100, sideways=True, linestyle="none", elinewidth=1.2, **style)


def _pairs(table: Table) -> Figure:
    """Draw what students of two classes know of all ten: a row per pair, a panel per measure."""
    shown = [pair for pair in PAIRS if any(name.endswith(only(pair)) for name in table.conditions())]
    figure = drawing.new_figure(
        1.0 + 2.1 * max(len(shown), 1),
        "Students that saw two classes only. Left: accuracy on images of all classes, after one shift of the "
        "biases of the two that makes them be answered as often as they occur. Right: accuracy on images of the "
        "classes that they never saw, when only those may be answered; no bias is corrected. Means over seeds with "
        "95 % intervals. Dashed: students of labels. Dotted: chance.",
    )
    if not shown:
        drawing.nothing(figure.subplots())
        return figure
    grid = figure.subplots(len(shown), 2, squeeze=False, sharex=True, sharey=True)
    for row, pair in zip(grid, shown, strict=True):
        for axes, (measure, _) in zip(row, _MEASURES_OF_PAIRS, strict=True):
            _panel_of_pair(axes, table, pair, measure)
        row[0].set_ylabel(f"only {_name(table, pair[0])}, {_name(table, pair[1])}\naccuracy, %")
    for column, (_, title) in enumerate(_MEASURES_OF_PAIRS):
        drawing.heading(grid[0, column], title)
        grid[-1, column].set_xlabel("temperature")
    drawing.legend_below(figure)
    return figure


def _panel_of_pair(axes: Axes, table: Table, pair: tuple[int, int], measure: str) -> None:
    """Draw a line per teacher against temperature, and what students of labels reach."""

    def place(condition: str) -> float | None:
        return drawing.temperature(condition) if condition.endswith(only(pair)) else None

    drawing.lines(axes, table, measure, place, lambda at, side: at * (1 + 0.05 * side), 100)
    if values := table.by_seed(of_labels(pair), measure):
        mean, name = interval(values.values()), "students of labels"
        drawing.level(axes, mean, 100, _OF_LABELS_COLOR, "--", name, opacity=0.15)
    if measure == "unseen_among_unseen" and len(table.classes) > 2:
        axes.axhline(100 / (len(table.classes) - 2), color="black", linestyle=":", linewidth=1.2, label="chance")
    drawing.temperatures(axes, TEMPERATURES)
    axes.set_ylim(0, 100)
    drawing.open_frame(axes)
