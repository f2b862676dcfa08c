"""Draw which measure of a population of teachers predicts what students gain, and which teachers teach best.

They are drawn from the table with its derived rows, whose conditions are named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Label, Table
from experiments import drawing
from experiments.drawing import Axes, Figure

CHANCE = "chance"
CHOSEN = "best measure, chosen on other families"
ANOTHER_SEED = "gain of another seed"
OTHER_SEEDS = "mean gain of all other seeds"

POINTS = 100
"""Factor from a share to percentage points."""
COLD, WARM = 1.0, 4.0
"""Temperatures; measures are ordered by the second."""
_SHOWN = 15
"""Number of measures in the ranking, beside the named ones."""
_SMOOTHED = "smoothing"
"""The family that a line joins, from weak to strong."""
_COLORS = ("#000000", *drawing.SMOOTHED, drawing.HARD, "#E69F00", "#56B4E9", "#7A7A7A", "#8C510A")
_LOOKS = tuple(zip(_COLORS, "*os^vD<>P", strict=True))
"""Colour and marker of each family, in its order: Okabe and Ito's palette, grey and brown."""


def measured_by(measure: str) -> str:
    """Name what a measure of teachers predicts."""
    return f"measure: {measure}"


def teacher_of(name: str) -> str:
    """Name a teacher by its recipe."""
    return f"teacher, {name}"


def gain_of(name: str, temperature: float) -> str:
    """Name what the students of a teacher gain."""
    return f"gain of {name}, T={temperature:g}"


def words(measure: str) -> str:
    """Say which measure it is, and of which images."""
    for split in ("train", "held_out"):
        if measure.endswith(f"_{split}"):
            return f"{measure.removesuffix(f'_{split}').replace('_', ' ')}, {split.replace('_', ' ')}"
    return measure.replace("_", " ")


def ranked(table: Table, candidates: Iterable[str], named: Mapping[str, str]) -> list[str]:
    """List what the ranking shows, the best first: measures that all seeds have, and the named ones."""
    seeds = len(table.by_seed(CHANCE, f"concordance_T{WARM:g}"))
    told = {name: concordances(table, name, WARM) for name in (*candidates, CHOSEN)}
    means = {
        name: interval(values.values()).mean
        for name, values in told.items()
        if values and (len(values) == seeds or name in named)
    }
    ordered = sorted(means, key=lambda name: -means[name])
    best = set(ordered[:_SHOWN])
    return [name for name in ordered if name in best or name in named or name == CHOSEN]


def concordances(table: Table, row: str, temperature: float) -> dict[int, float]:
    """Look up the concordance of a row of the ranking, seed by seed."""
    condition = row if row == CHOSEN else measured_by(row)
    return table.by_seed(condition, f"concordance_T{temperature:g}")


class Point(NamedTuple):
    """The means of one recipe over the seeds that have both values."""

    name: str
    measure: float
    gain: float


def points_of(table: Table, families: Mapping[str, str], measure: str, temperature: float) -> list[Point]:
    """Find what each teacher has of a measure, and what its students gain."""
    seeds = sorted({label.seed for label in table.values})
    points = []
    for name in families:
        # Looked up, since `by_seed` goes through a table of hundreds of conditions, for each of many measures.
        pairs = [
            (teacher[measure], gains["gain"])
            for seed in seeds
            if (teacher := table.values.get(Label(teacher_of(name), seed))) and measure in teacher
            if (gains := table.values.get(Label(gain_of(name, temperature), seed)))
        ]
        if pairs:
            values, gained = zip(*pairs, strict=True)
            points.append(Point(name, sum(values) / len(pairs), sum(gained) / len(pairs)))
    return points


def gain_by_measure(table: Table, families: Mapping[str, str], candidates: Iterable[str], proposal: str) -> Figure:
    """Draw what students gain against the proposal, and against the best of the other measures."""
    others = [row for row in ranked(table, candidates, {}) if row not in (CHOSEN, proposal)]
    shown = [proposal, *others[:1]]
    figure = drawing.new_figure(
        6.2,
        "What students gain over those of labels, against measures of their teachers: our proposal, left, and the "
        "measure that orders the gain at T=4 best of all others, right, found after the fact. A point is a recipe, "
        "mean over seeds; the line goes from no smoothing to the strongest.",
    )
    panels = figure.subplots(2, 2, sharey="row", sharex="col", squeeze=False)
    for across, temperature in zip(panels, (WARM, COLD), strict=True):
        for axes, measure in zip(across, shown, strict=False):
            _scatter(axes, points_of(table, families, measure, temperature), families)
        across[0].set_ylabel(f"gain at T={temperature:g}, points")
    for column, measure in enumerate(shown):
        panels[1, column].set_xlabel(words(measure))
    for axes in figure.axes:
        drawing.is_empty(axes)
    _legend(figure)
    return figure


def _scatter(axes: Axes, points: Sequence[Point], families: Mapping[str, str]) -> None:
    """Draw a marker per recipe, and a line through the recipes of smoothing, from none."""
    if not points:
        return
    kinds = list(dict.fromkeys(families.values()))
    joined = [point for point in points if families[point.name] in (kinds[0], _SMOOTHED)]
    axes.plot(*_places(joined), color=_LOOKS[1][0], linewidth=1, alpha=0.7)
    for kind, (color, marker) in zip(kinds, _LOOKS, strict=False):
        own = [point for point in points if families[point.name] == kind]
        size, above = {"*": 11, "P": 7}.get(marker, 5.5), 4 if marker == "*" else 3
        style: dict[str, Any] = {"markersize": size, "markeredgecolor": "white", "markeredgewidth": 0.4}
        name = _kind(kind) if own else None
        axes.plot(*_places(own), marker, linestyle="none", color=color, label=name, zorder=above, **style)
    values = [point.measure for point in points]
    if min(values) > 0 and max(values) > 30 * min(values):
        axes.set_xscale("log")
    drawing.open_frame(axes)


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.measure for point in points], [POINTS * point.gain for point in points]


def _kind(family: str) -> str:
    return "as it is" if family == "base" else family


def _legend(figure: Figure) -> None:
    named = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    if named:
        style: dict[str, Any] = {"ncols": 3, "frameon": False, "fontsize": 9, "handletextpad": 0.2}
        figure.legend(named.values(), named, loc="outside lower center", **style)


def gains_by_family(table: Table, families: Mapping[str, str]) -> Figure:
    """Draw what the students of every teacher gain, a row per family."""
    figure = drawing.new_figure(
        4.6,
        "Which teachers teach best? What students gain over those of labels, in points of test accuracy: a marker "
        "is a recipe, mean over seeds, at T=4 (filled) and at T=1 (hollow). Right: the recipe of each family whose "
        "students gain most, at either temperature, with the 95 % interval over seeds; the best of several is "
        "flattered. Dashed: the teacher as it is, at T=4.",
    )
    axes = figure.subplots()
    kinds = list(dict.fromkeys(families.values()))
    gains = {
        (name, temperature): interval(values.values())
        for name in families
        for temperature in (WARM, COLD)
        if (values := table.by_seed(gain_of(name, temperature), "gain"))
    }
    if not gains:
        drawing.nothing(axes)
        return figure
    for (name, temperature), gained in gains.items():
        place = kinds.index(families[name])
        color, marker = _LOOKS[place]
        filled = temperature == WARM
        height, size = place - 0.16 if filled else place + 0.18, 9 if marker == "*" else 5.5
        style: dict[str, Any] = {"color": color, "markerfacecolor": color if filled else "white", "alpha": 0.85}
        axes.plot(POINTS * gained.mean, height, marker, markersize=size, linestyle="none", **style)
        if families[name] == kinds[0] and filled:
            axes.axvline(POINTS * gained.mean, color="#444444", linewidth=1, linestyle="--", zorder=1)
    for place, kind in enumerate(kinds):
        own = {key: gained for key, gained in gains.items() if families[key[0]] == kind}
        if own:
            _best(axes, place, *max(own.items(), key=lambda each: each[1].mean))
    axes.axvline(0, color="#444444", linewidth=1.2, zorder=1)
    axes.set_yticks(range(len(kinds)), [_kind(kind).replace("over the", "over\nthe") for kind in kinds], fontsize=9)
    axes.set(ylim=(len(kinds) - 0.5, -0.5), xlabel="gain over students of labels, points of accuracy")
    drawing.open_frame(axes, grid="x")
    return figure


def _best(axes: Axes, place: int, which: tuple[str, float], gained: Interval) -> None:
    """Write beside a row its best recipe, and what its students gain."""
    name, temperature = which
    half = POINTS * drawing.half_width(gained)
    gain = f"{POINTS * gained.mean:+.1f}".replace("-", "−") + (f" ± {half:.1f}" if half else "")
    text, at = f"{name}, T={temperature:g}\n{gain}", axes.get_yaxis_transform()
    axes.text(1.02, place, text, transform=at, va="center", fontsize=8)
