"""Provide what figures share: colours, lines per teacher, legends and frames.

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
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:
    # Types of parameters only: matplotlib is imported when something is drawn.
    Axes = Figure = Any

HARD = "#0072B2"
"""Colour of hard targets (Okabe and Ito's palette: safe for colour-blind readers)."""
SMOOTHED = ("#D55E00", "#009E73", "#CC79A7")
"""Colours of smoothed targets: of `USUAL` if it is there, then of the others, weakest first."""
USUAL = 0.1
"""The ε of most experiments here, and of most runs of Müller et al. (2019)."""
BARS: dict[str, Any] = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.4, "capsize": 2.5}
"""Style of a line of means with intervals."""
_MARKERS = ("o", "s", "^", "D")
_WIDTH = 6.4


class Series(NamedTuple):
    """The look of one strength of smoothing, in every figure."""

    smoothing: float
    color: str
    marker: str

    @property
    def teacher(self) -> str:
        """Return the condition of the teacher."""
        return f"teacher ε={self.smoothing:g}"


def smoothing(condition: str) -> float | None:
    """Return the ε in a condition such as "student of ε=0.1, T=4"; None if it has none."""
    return _number(r"ε=(\d+(?:\.\d+)?)", condition)


def temperature(condition: str) -> float | None:
    """Return the T in a condition such as "student of ε=0.1, T=4"; None if it has none."""
    return _number(r"\bT=(\d+(?:\.\d+)?)", condition)


def _number(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return float(match[1]) if match else None


def new_figure(height: float, caption: str) -> Figure:
    """Make an empty figure, with its caption as label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    figure.set_layout_engine("constrained", wspace=0.06)
    figure.set_label(caption)
    return figure


def series_of(table: Table) -> list[Series]:
    """List the strengths of smoothing in the table, weakest first, each with its look."""
    values = sorted({value for name in table.conditions() if (value := smoothing(name)) is not None})
    # The usual strength has one colour in every figure, whatever is beside it.
    smoothed = sorted((value for value in values if value > 0), key=lambda value: value != USUAL)
    looks = {0.0: (HARD, _MARKERS[0])}
    for index, value in enumerate(smoothed):
        looks[value] = SMOOTHED[index % len(SMOOTHED)], _MARKERS[1 + index % (len(_MARKERS) - 1)]
    return [Series(value, *looks[value]) for value in values]


def color_of(condition: str, table: Table) -> str:
    """Return the colour of a condition's targets; students of labels share that of the teacher of these labels."""
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
) -> None:
    """Draw a line per teacher through its students, with intervals.

    Args:
        axes: where to draw.
        table: what was measured.
        measure: which measure; what is missing is not drawn.
        place: condition → its place on the x axis, None for one that is not on the line.
        shift: (place, side) → place a hair to that side, or the intervals of two teachers hide each other.
        scale: factor of the measure, 100 for a share in %.
    """
    shown = series_of(table)
    for index, series in enumerate(shown):
        own = [condition for condition in table.conditions() if smoothing(condition) == series.smoothing]
        at = {place(condition): condition for condition in own if table.by_seed(condition, measure)}
        side = index - (len(shown) - 1) / 2
        shifted = {shift(x, side): at[x] for x in sorted(x for x in at if x is not None)}
        points(axes, means(table, measure, shifted), scale, **look(series), label=f"students of {series.teacher}")


def horizontal(axes: Axes, table: Table, conditions: Iterable[str], measure: str, scale: float, style: str) -> None:
    """Draw a line over the whole width per condition, with its interval as a band."""
    for condition in conditions:
        if values := table.by_seed(condition, measure):
            level(axes, interval(values.values()), scale, color_of(condition, table), style, condition)


def level(
    axes: Axes, height: Interval, scale: float, color: str, style: str, label: str, opacity: float = 0.1
) -> None:
    """Draw a line over the whole width, with its interval as a band."""
    mean, half = scale * height.mean, scale * half_width(height)
    axes.axhline(mean, color=color, linestyle=style, linewidth=1.6, label=label)
    axes.axhspan(mean - half, mean + half, color=color, alpha=opacity, linewidth=0)


def means(table: Table, measure: str, at: Mapping[float, str]) -> dict[float, Interval]:
    """Return the mean of a measure with its interval for each place (place → condition) that has runs."""
    values = {place: table.by_seed(condition, measure).values() for place, condition in at.items()}
    return {place: interval(each) for place, each in values.items() if each}


def points(
    axes: Axes, at: Mapping[float, Interval], scale: float = 1, sideways: bool = False, **style: Any
) -> None:
    """Draw means with their intervals, each at its place on the x axis, or sideways on the y axis."""
    if at:
        middles = [scale * each.mean for each in at.values()]
        halves = [scale * half_width(each) for each in at.values()]
        x, y = (middles, list(at)) if sideways else (list(at), middles)
        axes.errorbar(x, y, **{"xerr" if sideways else "yerr": halves}, **style)


def temperatures(axes: Axes, shown: Sequence[float]) -> None:
    """Make the x axis logarithmic, with these temperatures on it."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{at:g}" for at in shown])
    axes.minorticks_off()


def curves(table: Table, condition: str, name: str) -> list[list[float]]:
    """Return a vector measure of the runs on all classes, one vector per seed."""
    return [
        curves[name]
        for label, curves in table.curves.items()
        if label.condition == condition and label.unseen is None and label not in table.diverged and name in curves
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
    """Draw one vector measure of a teacher against another: the mean over seeds, its interval as a band.

    Args:
        axes: where to draw; nothing is drawn if no run has the measure.
        table: what was measured.
        series: the teacher's look.
        places: name of the curve on the x axis, alike for all seeds.
        heights: name of the curve on the y axis.
        scale: factor of the heights, 100 for a share in %.
        opacity: opacity of the band.
        markersize: size of a marker at each point; None draws none.
    """
    seeds = curves(table, series.teacher, heights)
    if not seeds:
        return
    at = curves(table, series.teacher, places)[0]
    shown = [interval(values) for values in zip(*seeds, strict=True)]
    middles = [scale * each.mean for each in shown]
    halves = [scale * half_width(each) for each in shown]
    low, high = ([mean + sign * half for mean, half in zip(middles, halves, strict=True)] for sign in (-1, 1))
    axes.fill_between(at, low, high, color=series.color, alpha=opacity, linewidth=0)
    marker: dict[str, Any] = {"marker": series.marker, "markersize": markersize} if markersize else {}
    axes.plot(at, middles, color=series.color, linewidth=1.6, label=series.teacher, **marker)


def logarithmic(axes: Axes, digits: Sequence[int]) -> None:
    """Make the y axis logarithmic, with plain numbers at these digits times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=tuple(digits)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def half_width(of: Interval) -> float:
    """Return half of an interval; 0, which draws nothing, if one seed gives none."""
    return 0.0 if math.isnan(of.low) else of.mean - of.low


def look(series: Series) -> dict[str, Any]:
    """Return the arguments of `errorbar` for a strength of smoothing."""
    return {"color": series.color, "marker": series.marker, **BARS}


def legend_below(figure: Figure) -> None:
    """Put one legend for all panels below a figure, each name once."""
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
    """Give a panel its title."""
    axes.set_title(text, fontsize=10)


def nothing(axes: Axes) -> None:
    """Say that there is no run to draw, and hide the empty axes."""
    axes.set_axis_off()
    say_nothing(axes)


def is_empty(axes: Axes) -> bool:
    """Tell whether nothing was drawn in axes, and if so say it there."""
    if axes.has_data():
        return False
    nothing(axes)
    return True


def say_nothing(axes: Axes) -> None:
    """Say that there is no run to draw, in axes that stay."""
    axes.text(0.5, 0.5, "no run to draw", ha="center", va="center", transform=axes.transAxes, color="#555555")


def open_frame(axes: Axes, grid: Literal["x", "y"] = "y") -> None:
    """Remove the frame at the top and right, and draw a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
