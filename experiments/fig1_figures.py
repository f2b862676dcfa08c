"""Draw penultimate activations on the planes through three templates, and how tight their clusters are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from math import floor, hypot, log10
from typing import Any, Literal, NamedTuple

from distill.metrics.verdict import interval
from distill.reports.experiment import Label, Table
from experiments import drawing
from experiments.drawing import Axes, Figure
from experiments.fig1_penultimate import SPLITS

# Okabe and Ito's palette without the colours that stand for teachers in all figures; markers say the same again.
_CLASS_LOOKS = (("#56B4E9", "o"), ("#E69F00", "s"), ("#CC79A7", "^"))


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the picture first."""
    return {
        "projections": _projections(
            table,
            True,
            "Penultimate activations of up to 100 training and 100 held-out images of each of three classes, on "
            "the plane through the templates of these classes; first seed. Same axes in all panels, in units of "
            "the distance between class means of the network's training images: smoothing shrinks all "
            "activations, which would hide what becomes of a cluster's shape. Black-edged: the templates; rays "
            "lead through them from their centroid. Below each panel its compactness, over all seeds with 95 % "
            "interval: mean squared distance to the class mean, relative to that between class means; lower is "
            "tighter.",
        ),
        "numbers": _numbers(table),
        "projections_unscaled": _projections(
            table,
            False,
            "The same projections as the network has them, same axes within a row: how much smoothing shrinks "
            "activations. Below each panel the root mean squared distance between class means, over all seeds "
            "with 95 % interval.",
        ),
    }


class _Panel(NamedTuple):
    """A column of the picture."""

    condition: str
    split: str


def _panels(table: Table) -> list[_Panel]:
    """List the columns, without smoothing first, as in the paper; conditions without a run are left out."""
    shown = [series.teacher for series in drawing.series_of(table) if _first_seed(table, series.teacher)]
    return [_Panel(*panel) for panel in product(shown, SPLITS)]


def _first_seed(table: Table, condition: str) -> Label | None:
    drawn = [label for label, curves in table.curves.items() if "plane_classes" in curves]
    own = (label for label in drawn if label.condition == condition)
    return min(own, key=lambda label: label.seed, default=None)


def _suffixes(table: Table) -> list[str]:
    """Return what the names of each triple's measures end in."""
    names = next((curves for curves in table.curves.values() if "plane_classes" in curves), {})
    return [name.removeprefix("plane_classes") for name in names if name.startswith("plane_classes")]


def _projections(table: Table, relative: bool, caption: str) -> Figure:
    """Draw a row per triple, a column per network and split."""
    panels, suffixes = _panels(table), _suffixes(table)
    figure = drawing.new_figure(2.5 * max(1, len(suffixes)), caption)
    if not panels:
        drawing.nothing(figure.subplots())
        return figure
    pictures = {suffix: [_picture(table, panel, suffix, relative) for panel in panels] for suffix in suffixes}
    shared = _square(picture for row in pictures.values() for picture in row) if relative else None
    parts = figure.subfigures(len(suffixes), 1, squeeze=False)[:, 0]
    for part, (suffix, row) in zip(parts, pictures.items(), strict=True):
        grid = part.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for axes, panel, picture in zip(grid, panels, row, strict=True):
            _scatter(axes, picture, shared or _square(row))
            drawn = f"{panel.condition.removeprefix('teacher ')}, {SPLITS[panel.split]}"
            axes.set_title(drawn, fontsize=9, color=drawing.color_of(panel.condition, table), pad=3)
            measure = "compactness" if relative else "class_distance"
            number = _with_interval(table, panel.condition, f"{measure}_{panel.split}{suffix}")
            axes.set_xlabel(f"{measure.replace('_', ' ')}\n{number}", fontsize=8)
        grid[0].set_ylabel("in class distances" if relative else "in units of activations", fontsize=8)
        style: dict[str, Any] = {"ncols": 3, "frameon": False, "markerscale": 2.5, "handletextpad": 0.1}
        part.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", borderpad=0.1, **style)
    return figure


class _Points(NamedTuple):
    """The points of one class on a plane, and its template."""

    name: str
    x: list[float]
    y: list[float]
    template: tuple[float, float]


def _picture(table: Table, panel: _Panel, suffix: str, relative: bool) -> list[_Points]:
    """Return what a panel shows of each class, in the unit of the figure."""
    label = _first_seed(table, panel.condition)
    assert label is not None, "panels are of conditions that have a run"
    unit = table.values[label][f"class_distance_train{suffix}"] if relative else 1.0
    curves = table.curves[label]

    def curve(name: str) -> list[float]:
        return [value / unit for value in curves[f"plane_{name}{suffix}"]]

    at = list(zip(curve(f"{panel.split}_x"), curve(f"{panel.split}_y"), strict=True))
    owner = curves[f"plane_{panel.split}_class{suffix}"]
    shown = []
    for place, template in enumerate(zip(curve("template_x"), curve("template_y"), strict=True)):
        mine = [point for point, cls in zip(at, owner, strict=True) if cls == place]
        name = _name(table, curves[f"plane_classes{suffix}"][place])
        shown.append(_Points(name, [x for x, _ in mine], [y for _, y in mine], template))
    return shown


_Square = dict[Literal["xlim", "ylim"], tuple[float, float]]
"""Limits of two axes."""


def _square(pictures: Iterable[list[_Points]]) -> _Square:
    """Return a square that all points and templates of the pictures lie in, with air around them."""
    classes = [points for picture in pictures for points in picture]
    x_values = [value for points in classes for value in (*points.x, points.template[0])]
    y_values = [value for points in classes for value in (*points.y, points.template[1])]
    sides = x_values, y_values
    half = 0.54 * max(max(side) - min(side) for side in sides)
    x, y = ((max(side) + min(side)) / 2 for side in sides)
    return {"xlim": (x - half, x + half), "ylim": (y - half, y + half)}


def _scatter(axes: Axes, picture: list[_Points], limits: _Square) -> None:
    """Draw the points of each class, its template, and the ray to the template from the centroid of all three."""
    reach = sum(abs(limit) for pair in limits.values() for limit in pair)  # beyond the edge
    for points, (color, marker) in zip(picture, _CLASS_LOOKS, strict=True):
        x, y = points.template
        far = reach / hypot(x, y)
        axes.plot([0, far * x], [0, far * y], color=color, linewidth=0.8, zorder=1)
        style: dict[str, Any] = {"color": color, "marker": marker}
        axes.scatter(points.x, points.y, s=5, linewidths=0, alpha=0.75, label=points.name, **style)
        axes.scatter([x], [y], s=12, color=color, marker=marker, edgecolors="black", linewidths=0.7, zorder=3)
    axes.set(**limits, aspect="equal")
    axes.tick_params(labelsize=7, length=2, pad=1)
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")


def _name(table: Table, cls: float) -> str:
    return table.classes[int(cls)] if int(cls) < len(table.classes) else str(int(cls))


def _with_interval(table: Table, condition: str, measure: str) -> str:
    values = table.by_seed(condition, measure)
    if not values:
        return "–"
    mean = interval(values.values())
    half = drawing.half_width(mean)
    if not half:
        return f"{mean.mean:.3g}"
    digits = max(0, 1 - floor(log10(half)))
    return f"{mean.mean:.{digits}f} ± {half:.{digits}f}"


def _numbers(table: Table) -> Figure:
    """Draw what the pictures show as numbers: a row per triple, a panel per measure."""
    suffixes = _suffixes(table)
    figure = drawing.new_figure(
        0.6 + 1.9 * max(1, len(suffixes)),
        "What the pictures show, as numbers: means over seeds with 95 % intervals. Compactness: mean squared "
        "distance to the class mean over that between class means, on the plane. Scatter: the same in all "
        "dimensions. Imbalance: how unequal the squared distances to the two incorrect templates are, relative to "
        "how much nearer the own template is. Irregularity: of the sides of the triangle of class means. All are "
        "ratios, and lower is tighter, more equal, more regular.",
    )
    measures = ("compactness", "scatter", "imbalance", "irregularity")
    if not suffixes:
        drawing.nothing(figure.subplots())
        return figure
    grid = figure.subplots(len(suffixes), len(measures), squeeze=False, sharex=True)
    for row, suffix in zip(grid, suffixes, strict=True):
        for axes, measure in zip(row, measures, strict=True):
            _by_split(axes, table, measure, suffix)
        row[0].set_ylabel(_triple(table, suffix), fontsize=8)
    for axes, measure in zip(grid[0], measures, strict=True):
        drawing.heading(axes, measure)
    drawing.legend_below(figure)
    return figure


def _triple(table: Table, suffix: str) -> str:
    name = f"plane_classes{suffix}"
    ids = next(curves[name] for curves in table.curves.values() if name in curves)
    return ",\n".join(_name(table, cls) for cls in ids)


def _by_split(axes: Axes, table: Table, measure: str, suffix: str) -> None:
    """Draw both splits side by side, for each teacher, with intervals."""
    shown = drawing.series_of(table)
    for index, series in enumerate(shown):
        shift = (index - (len(shown) - 1) / 2) * 0.24
        names = {place + shift: f"{measure}_{split}{suffix}" for place, split in enumerate(SPLITS)}
        values = {place: table.by_seed(series.teacher, name).values() for place, name in names.items()}
        means = {place: interval(each) for place, each in values.items() if each}
        drawing.points(axes, means, **drawing.look(series), linestyle="none", label=series.teacher)
    if drawing.is_empty(axes):
        return
    axes.set_xticks(range(len(SPLITS)), list(SPLITS.values()), fontsize=8)
    axes.set_xlim(-0.5, len(SPLITS) - 0.5)
    axes.tick_params(axis="y", labelsize=7, pad=1)
    axes.set_ylim(bottom=0)
    drawing.open_frame(axes)
