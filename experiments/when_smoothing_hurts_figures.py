"""Draw maps of what smoothing a teacher costs its students, and the best temperature of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from statistics import fmean
from typing import Any

from distill.metrics.verdict import Judgement
from distill.reports.experiment import Table
from experiments import drawing, smoothing_map
from experiments.drawing import Axes, Figure
from experiments.when_smoothing_hurts import (
    AUGMENTED,
    MAIN,
    NARROW,
    SHARES,
    SMOOTHINGS,
    Panel,
    best_of,
    cost_at,
    cost_of,
    distilled_of,
    of_labels,
)

_Cells = dict[smoothing_map.Place, Judgement]


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the map first."""
    return {
        "map": _map(table),
        "best_temperature": _best_temperature(table),
        "augmentation": _beside(
            table,
            AUGMENTED,
            ("images as they are", "augmented"),
            "What smoothing the teacher costs students of images as they are (left) and of up to 16 stored views "
            "per image, read in turn, whose teachers were trained on such views for twice the epochs (middle).",
        ),
        "capacity": _beside(
            table,
            NARROW,
            ("wide student", "narrow student"),
            "What smoothing the teacher costs a wide student (left) and a narrow one of the same teachers "
            "(middle).",
        ),
    }


_HOW_TO_READ = (
    "Orange: smoothing hurts; purple: it helps; hatched: the seeds cannot tell. With so many cells, about one in "
    "twenty of those without any effect is decided by chance."
)
_HELPS, _HURTS = "smoothing helps", "smoothing hurts"


def _map(table: Table) -> Figure:
    """Draw the cost of smoothing over sizes (columns) and temperatures (rows), one map per strength."""
    figure = drawing.new_figure(
        6.9,
        "Should I smooth my teacher? Each cell is the test accuracy of the hard teacher's student minus that of "
        f"the smoothed teacher's student, in points, mean over seeds. {_HOW_TO_READ}",
    )
    maps = [
        smoothing_map.Map(f"teacher smoothed by ε = {value:g}", _cells(table, value)) for value in SMOOTHINGS[1:]
    ]
    scale = smoothing_map.scale_of(maps)
    panels = list(figure.subplots(len(maps), 1))
    for axes, each in zip(panels, maps, strict=True):
        smoothing_map.draw_map(axes, each, scale, _temperatures(MAIN), _shares(MAIN))
        axes.set_ylabel("temperature")
    panels[-1].set_xlabel(_SHARE_SEEN)
    smoothing_map.key_below(figure, panels, scale, _HELPS, _HURTS)
    return figure


_SHARE_SEEN = "part of the teacher's images that students see"


def _cells(table: Table, smoothing: float, panel: Panel = MAIN, points: Panel | None = None) -> _Cells:
    """Return the cost of a smoothing at the places of `points`, by default at all places of the panel."""
    at = points or panel
    return _defined(
        at,
        lambda share, temperature: smoothing_map.compare(
            table, distilled_of(0, temperature, share, panel), distilled_of(smoothing, temperature, share, panel)
        ),
    )


def _differences(table: Table, smoothing: float, panel: Panel) -> _Cells:
    """Return how much more smoothing costs on this panel than on the main one."""
    return _defined(
        panel,
        lambda share, temperature: smoothing_map.compare(
            table, cost_of(smoothing, share, panel), cost_of(smoothing, share), cost_at(temperature)
        ),
    )


def _defined(points: Panel, judged: Callable[[float, float], Judgement | None]) -> _Cells:
    """Put the verdicts on (share, temperature) at their places."""
    places = product(enumerate(points.temperatures), enumerate(points.shares))
    cells = {(row, column): judged(share, temperature) for (row, temperature), (column, share) in places}
    return {place: cell for place, cell in cells.items() if cell is not None}


def _temperatures(panel: Panel) -> list[str]:
    return [f"{value:g}" for value in panel.temperatures]


def _shares(panel: Panel) -> list[str]:
    return [f"{value:.0%}".replace("%", " %") for value in panel.shares]


def _beside(table: Table, panel: Panel, names: tuple[str, str], caption: str) -> Figure:
    """Draw maps of the main panel and of another one at equal points, and of the difference between the two."""
    strengths = panel.smoothings[1:]
    figure = drawing.new_figure(
        1.35 + 1.65 * len(strengths),
        f"{caption} In points of test accuracy, mean over seeds. {_HOW_TO_READ} Right: the middle minus the left "
        "one, seed by seed; orange where smoothing costs more in the middle.",
    )
    titles = (*names, "difference")
    rows = []
    for value in strengths:
        cells = _cells(table, value, MAIN, panel), _cells(table, value, panel), _differences(table, value, panel)
        rows.append([smoothing_map.Map(*each) for each in zip(titles, cells, strict=True)])
    scale = smoothing_map.scale_of(each for row in rows for each in row)
    grid = figure.subplots(len(rows), 3, squeeze=False, sharex=True, sharey=True)
    for value, line, row in zip(strengths, grid, rows, strict=True):
        for axes, each in zip(line, row, strict=True):
            smoothing_map.draw_map(axes, each, scale, _temperatures(panel), _shares(panel))
        line[0].set_ylabel(f"ε = {value:g}\ntemperature")
    grid[-1, 1].set_xlabel(_SHARE_SEEN)
    smoothing_map.key_below(figure, list(grid.flat), scale, _HELPS, _HURTS)
    return figure


def _best_temperature(table: Table) -> Figure:
    """Draw what each teacher's students gain over students of labels at their best temperature, and which it is."""
    figure = drawing.new_figure(
        7.2,
        "For each teacher, size and seed the temperature that held-out images choose. Above: what its student "
        "gains in test accuracy over a student of labels that sees the same images, mean over seeds with 95 % "
        "intervals; under each size that student's accuracy. In the middle: the hard teacher's student minus the "
        f"smoothed teacher's, in points. {_HOW_TO_READ} Below: the temperatures chosen, lowest to highest.",
    )
    gain, cost, chosen = figure.subplots(3, 1, gridspec_kw={"height_ratios": [5, 3, 3]})
    places = {best_of(value, share): place for value in SMOOTHINGS for place, share in enumerate(SHARES)}
    drawing.lines(
        gain, table, "gain_over_labels", places.get, lambda at, side: at + 0.09 * side, smoothing_map.POINTS
    )
    drawing.heading(gain, "gain over a student of labels, best temperature")
    if gain.has_data():
        gain.axhline(0, color="#555555", linewidth=1, linestyle=":")
        gain.set_ylabel("points")
        gain.set_xticks(range(len(SHARES)), _shares_with_labels(table))
        gain.set_xlim(-0.5, len(SHARES) - 0.5)
        handles, names = gain.get_legend_handles_labels()
        short = [name.removeprefix("students of teacher ") for name in names]
        gain.legend(handles, short, frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        drawing.open_frame(gain)
    else:
        drawing.nothing(gain)
    _cost_at_best(figure, cost, table)
    _write_chosen(chosen, table)
    chosen.set_xlabel(_SHARE_SEEN)
    return figure


def _shares_with_labels(table: Table) -> list[str]:
    """Name each size, and below it how accurate students of labels are."""
    names = []
    for share, name in zip(SHARES, _shares(MAIN), strict=True):
        accuracies = table.by_seed(of_labels(share), "accuracy").values()
        names.append(f"{name}\n({smoothing_map.POINTS * fmean(accuracies):.1f} %)" if accuracies else name)
    return names


def _cost_at_best(figure: Figure, axes: Axes, table: Table) -> None:
    """Draw a map of sizes and strengths of smoothing, at the best temperature of each teacher."""
    judged = {
        (row, column): smoothing_map.compare(table, best_of(0, share), best_of(value, share))
        for (row, value), (column, share) in product(enumerate(SMOOTHINGS[1:]), enumerate(SHARES))
    }
    cells = {place: cell for place, cell in judged.items() if cell is not None}
    shown = smoothing_map.Map("cost of smoothing, best temperature of each teacher", cells)
    scale = smoothing_map.scale_of([shown])
    strengths = [f"ε = {value:g}" for value in SMOOTHINGS[1:]]
    smoothing_map.draw_map(axes, shown, scale, strengths, _shares(MAIN))
    smoothing_map.key_below(figure, [axes], scale, _HELPS, _HURTS)


def _write_chosen(axes: Axes, table: Table) -> None:
    """Write a table of the temperatures that held-out images chose."""
    drawing.heading(axes, "temperature chosen on held-out images")
    empty = True
    for (row, value), (column, share) in product(enumerate(SMOOTHINGS), enumerate(SHARES)):
        temperatures = table.by_seed(best_of(value, share), "chosen_temperature").values()
        if temperatures:
            low, high = min(temperatures), max(temperatures)
            text = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=10)
            empty = False
    if empty:
        drawing.nothing(axes)
        return
    axes.set_xticks(range(len(SHARES)), _shares(MAIN))
    axes.set_yticks(range(len(SMOOTHINGS)), [f"ε = {value:g}" for value in SMOOTHINGS])
    axes.set(xlim=(-0.5, len(SHARES) - 0.5), ylim=(-0.5, len(SMOOTHINGS) - 0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
