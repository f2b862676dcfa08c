"""What figures are drawn with: colours, lines per teacher, legends and frames.

Teachers and students are told apart by the targets behind them: one colour for hard targets, others for
smoothed ones, in every figure. Nothing touches pyplot or its global state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HARD = "#0072B2"
"""Colour of hard targets (Okabe and Ito's palette: safe for colour-blind readers)."""
SMOOTHED = ("#D55E00", "#009E73", "#CC79A7")
"""Colours of smoothed targets: of `USUAL` if it is there, then of the others, weakest first."""
USUAL = 0.1
"""The ε of most experiments here, and of most runs of Müller et al. (2019)."""
BARS: dict[str, Any] = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.4, "capsize": 2.5}
"""How a line of means with intervals is drawn."""
_MARKERS = ("o", "s", "^", "D")
_WIDTH = 6.4


class Series(NamedTuple):
    """How one strength of smoothing is drawn, wherever it appears."""

    smoothing: float
    color: str
    marker: str

    @property
    def teacher(self) -> str:
        """Condition of the teacher."""
        return f"teacher ε={self.smoothing:g}"


def smoothing(condition: str) -> float | None:
    """The ε in a condition such as "student of ε=0.1, T=4"; None if it has none."""
    found = re.search(r"ε=(\d+(?:\.\d+)?)", condition)
    return float(found[1]) if found else None


def temperature(condition: str) -> float | None:
    """The T in a condition such as "student of ε=0.1, T=4"; None if it has none."""
    found = re.search(r"\bT=(\d+(?:\.\d+)?)", condition)
    return float(found[1]) if found else None


def new_figure(height: float, caption: str) -> Figure:
    """An empty figure, with its caption as label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    figure.set_layout_engine("constrained", wspace=0.06)
    figure.set_label(caption)
    return figure


def series_of(table: Table) -> list[Series]:
    """The strengths of smoothing in the table, weakest first, each with its look."""
    values = sorted({value for name in table.conditions() if (value := smoothing(name)) is not None})
    # The usual strength has one colour in every figure, whatever is beside it.
    smoothed = sorted((value for value in values if value > 0), key=lambda value: value != USUAL)
    looks = {0.0: (HARD, _MARKERS[0])}
    for index, value in enumerate(smoothed):
        looks[value] = SMOOTHED[index % len(SMOOTHED)], _MARKERS[1 + index % (len(_MARKERS) - 1)]
    return [Series(value, *looks[value]) for value in values]


def color_of(condition: str, table: Table) -> str:
    """Colour of the targets behind a condition; students of labels share that of the teacher of those labels."""
    strength = smoothing(condition)
    for series in series_of(table):
        if series.smoothing == strength:
            return series.color
    return SMOOTHED[0] if "smoothed" in condition else HARD


def lines(
    axes: Axes,
    table: Table,
    measure: str,
    place: Callable[[str], float | None],
    shift: Callable[[float, float], float],
    scale: float = 1,
    unseen: bool = False,
) -> None:
    """A line per teacher through its students, with intervals.

    Args:
        axes: where to draw.
        table: what was measured.
        measure: which measure; what is missing is not drawn.
        place: condition → its place on the x axis, None for one that is not on the line.
        shift: (place, side) → place a hair to that side, or the intervals of two teachers hide each other.
        scale: factor of the measure, 100 for a share in %.
        unseen: whether to take the runs with a class left out, or the others.
    """
    shown = series_of(table)
    for index, series in enumerate(shown):
        found = {}
        for condition in table.conditions():
            at = place(condition)
            values = table.by_seed(condition, measure, unseen)
            if at is not None and smoothing(condition) == series.smoothing and values:
                found[at] = interval(values.values())
        side = index - (len(shown) - 1) / 2
        shifted = {shift(at, side): found[at] for at in sorted(found)}
        points(axes, shifted, scale, **look(series), label=f"students of {series.teacher}")


def horizontal(
    axes: Axes,
    table: Table,
    conditions: Iterable[str],
    measure: str,
    scale: float,
    style: str,
    unseen: bool = False,
) -> None:
    """A line over the whole width per condition, with its interval as a band."""
    for condition in conditions:
        values = table.by_seed(condition, measure, unseen)
        if values:
            found, color = interval(values.values()), color_of(condition, table)
            level(axes, found, scale, color, style, condition)


def level(
    axes: Axes, found: Interval, scale: float, color: str, style: str, label: str, opacity: float = 0.1
) -> None:
    """Draw a line over the whole width, with its interval as a band."""
    mean, half = scale * found.mean, scale * half_width(found)
    axes.axhline(mean, color=color, linestyle=style, linewidth=1.6, label=label)
    axes.axhspan(mean - half, mean + half, color=color, alpha=opacity, linewidth=0)


def points(
    axes: Axes, found: Mapping[float, Interval], scale: float = 1, sideways: bool = False, **style: Any
) -> None:
    """Draw means with their intervals, each at its place on the x axis, or sideways on the y axis."""
    if found:
        means = [scale * each.mean for each in found.values()]
        halves = [scale * half_width(each) for each in found.values()]
        x, y = (means, list(found)) if sideways else (list(found), means)
        axes.errorbar(x, y, **{"xerr" if sideways else "yerr": halves}, **style)


def temperatures(axes: Axes, shown: Sequence[float]) -> None:
    """Make the x axis logarithmic, with these temperatures on it."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{at:g}" for at in shown])
    axes.minorticks_off()


def curves(table: Table, condition: str, name: str) -> list[list[float]]:
    """A vector measure of the runs on all classes, one vector per seed."""
    return [
        found[name]
        for label, found in table.curves.items()
        if label.condition == condition and label.unseen is None and label not in table.diverged and name in found
    ]


def band(
    axes: Axes,
    table: Table,
    series: Series,
    places: str,
    heights: str,
    scale: float = 1,
    opacity: float = 0.15,
    markersize: float | None = None,
) -> None:
    """A curve measure of a teacher against another: the mean over seeds as a line, its interval as a band.

    Args:
        axes: where to draw; nothing is drawn where no run has the measure.
        table: what was measured.
        series: whose.
        places: name of the curve on the x axis, alike for all seeds.
        heights: name of the curve on the y axis.
        scale: factor of the heights, 100 for a share in %.
        opacity: of the band.
        markersize: of a marker at each point; None draws none.
    """
    seeds = curves(table, series.teacher, heights)
    if not seeds:
        return
    at = curves(table, series.teacher, places)[0]
    found = [interval(values) for values in zip(*seeds, strict=True)]
    means = [scale * point.mean for point in found]
    halves = [scale * half_width(point) for point in found]
    low, high = ([mean + sign * half for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between(at, low, high, color=series.color, alpha=opacity, linewidth=0)
    marker: dict[str, Any] = {"marker": series.marker, "markersize": markersize} if markersize else {}
    axes.plot(at, means, color=series.color, linewidth=1.6, label=series.teacher, **marker)


def logarithmic(axes: Axes, digits: Sequence[int]) -> None:
    """A logarithmic y axis with plain numbers at these digits times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=tuple(digits)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def half_width(found: Interval) -> float:
    """Half of an interval; 0, which draws nothing, where one seed gives none."""
    return 0.0 if math.isnan(found.low) else found.mean - found.low


def look(series: Series) -> dict[str, Any]:
    """Arguments of errorbar for a strength of smoothing."""
    return {
        "color": series.color,
        "marker": series.marker,
        **BARS,
    }


def legend_below(figure: Figure) -> None:
    """One legend for all panels, each name once."""
    named = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            named.setdefault(label, handle)
    if named:
        names = sorted(named, key=lambda name: ("student" in name, "students" in name))
        style: dict[str, Any] = {"ncols": (len(names) + 1) // 2, "frameon": False, "columnspacing": 1.2}
        figure.legend([named[name] for name in names], names, loc="outside lower center", **style)


def heading(axes: Axes, text: str) -> None:
    """Title of one panel."""
    axes.set_title(text, fontsize=10)


def nothing(axes: Axes) -> None:
    """Say that there is no run to draw, rather than show empty axes."""
    axes.set_axis_off()
    say_nothing(axes)


def say_nothing(axes: Axes) -> None:
    """Say that there is no run to draw, in axes that stay."""
    axes.text(0.5, 0.5, "no run to draw", ha="center", va="center", transform=axes.transAxes, color="#555555")


def open_frame(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """No frame at the top and right, and a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
