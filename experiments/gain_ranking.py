"""Draw which measure of teachers predicts what students gain, the best on top."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from distill.metrics.verdict import CONFIDENCE, interval
from distill.reports.experiment import Table
from experiments import drawing
from experiments.drawing import Axes, Figure
from experiments.gain_figures import (
    CHOSEN,
    COLD,
    OTHER_SEEDS,
    WARM,
    concordances,
    measured_by,
    points_of,
    ranked,
    words,
)
from experiments.prediction import family_error


def ranking(
    table: Table,
    families: Mapping[str, str],
    candidates: Iterable[str],
    named: Mapping[str, str],
    chosen: Sequence[Mapping[str, float]],
) -> Figure:
    """Draw measures by how well they order teachers, the best on top, beside chance and what other seeds tell.

    Args:
        table: the table with its derived rows.
        families: name of a teacher → its family.
        candidates: all measures.
        named: measure that is always shown → what it is, in words.
        chosen: per seed, measure → share of pairs for which it was chosen on other families.
    """
    figure = drawing.new_figure(7.6, _caption(chosen))
    axes = figure.subplots()
    rows = ranked(table, candidates, named)
    if not rows:
        drawing.nothing(axes)
        return figure
    errors = _family_errors(table, families, [row for row in rows if row != CHOSEN])
    for place, row in enumerate(rows):
        color = _row_color(row, named)
        if row in errors:
            mean, error = interval(concordances(table, row, WARM).values()).mean, errors[row]
            axes.plot([mean - error, mean + error], [place - 0.1] * 2, color="#c9c9c9", linewidth=5, zorder=1)
        _dot(axes, table, row, COLD, place + 0.2, color)
        _dot(axes, table, row, WARM, place - 0.1, color)
    axes.axvline(0.5, color="#444444", linewidth=1.2)
    axes.text(0.5, -0.75, "chance ", ha="right", va="center", color="#444444", fontsize=8.5)
    for temperature, style in ((COLD, ":"), (WARM, "--")):
        if told := table.by_seed(OTHER_SEEDS, f"concordance_T{temperature:g}"):
            mean = interval(told.values()).mean
            axes.axvline(
                mean, color="#444444", linewidth=1.2, linestyle=style, label=f"other seeds, T={temperature:g}"
            )
    axes.set_yticks(range(len(rows)), [_row_name(table, row, named) for row in rows], fontsize=8.5)
    for row, tick in zip(rows, axes.get_yticklabels(), strict=True):
        tick.set_color(_row_color(row, named))
    axes.set_ylim(len(rows) - 0.4, -1.2)
    low, high = axes.get_xlim()  # intervals of two seeds can be wider than all shares
    axes.set(xlim=(max(0.0, low), min(1.0, high)), xlabel="share of pairs ordered as the gain orders them")
    drawing.open_frame(axes, grid="x")
    drawing.legend_below(figure)
    return figure


def _caption(chosen: Sequence[Mapping[str, float]]) -> str:
    told: Counter[str] = Counter()
    for shares in chosen:
        told.update(shares)
    most = [f"{words(name)} ({share / len(chosen):.0%} of pairs)" for name, share in told.most_common(2)]
    return (
        "Which measure tells beforehand whose students gain more? Share of pairs of teachers that a measure orders "
        "as the gain of their students does, its sign learned on the families of neither. Dots: means over seeds "
        "with 95 % intervals. Grey bars, T=4: 95 % intervals over families of teachers (jackknife), which tell how "
        "far it would hold for other kinds. ↑ more of it, more gain at T=4; ↓ less. Dashed and dotted: what the "
        "mean gain of all other seeds tells of this one."
        + (f" The best measure, if chosen on other families at T=4, is {' or '.join(most)}." if most else "")
    )


def _row_color(row: str, named: Mapping[str, str]) -> str:
    if row == CHOSEN:
        return drawing.SMOOTHED[1]
    if row not in named:
        return "#333333"
    return drawing.SMOOTHED[0] if row in list(named)[:2] else drawing.HARD


def _row_name(table: Table, row: str, named: Mapping[str, str]) -> str:
    if row == CHOSEN:
        return "best measure, chosen\non other families"
    signs = table.by_seed(measured_by(row), f"rank_correlation_T{WARM:g}").values()
    arrow = "" if not signs else " ↑" if sum(signs) > 0 else " ↓"
    text = words(row)
    return f"{text}{arrow}\n({named[row]})" if row in named else f"{text}{arrow}"


def _dot(axes: Axes, table: Table, row: str, temperature: float, place: float, color: str) -> None:
    """Draw the mean of one measure at one temperature with its interval, if there is one."""
    values = concordances(table, row, temperature)
    if values:
        mean = interval(values.values())
        filled = temperature == WARM
        marker, size, width = ("o", 5.5, 1.3) if filled else ("D", 4, 0.8)
        style = {"marker": marker, "markersize": size, "markerfacecolor": color if filled else "white"}
        name = f"T={temperature:g}" if row == CHOSEN else None
        style |= {"color": color, "elinewidth": width, "linestyle": "none", "label": name}
        drawing.points(axes, {place: mean}, sideways=True, **style)


def _family_errors(table: Table, families: Mapping[str, str], measures: Sequence[str]) -> dict[str, float]:
    """Map each measure to half of the 95 % interval of its concordance over families, from means over seeds."""
    points = {measure: points_of(table, families, measure, WARM) for measure in measures}
    common = set.intersection(*({point.name for point in row} for row in points.values())) if points else set()
    kept = {name: [point for point in row if point.name in common] for name, row in points.items()}
    some = next(iter(kept.values()), [])
    named = [families[point.name] for point in some]
    if len(set(named)) < 3:
        return {}
    from scipy.stats import t as student_t

    values = np.array([[point.measure for point in row] for row in kept.values()])
    error = family_error(values, np.array([point.gain for point in some]), named)
    times = float(student_t.ppf((1 + CONFIDENCE) / 2, len(set(named)) - 1))
    return {name: times * float(each) for name, each in zip(kept, error, strict=True) if math.isfinite(each)}
