"""Draw heat maps of paired differences: coloured cells are decided by the seeds, hatched ones are not.

What is positive is drawn in orange, what is negative in purple, on one scale for all maps of a figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from distill.metrics.verdict import Judgement, judge
from distill.reports.experiment import Table
from experiments import drawing
from experiments.drawing import Axes, Figure

if TYPE_CHECKING:
    from matplotlib.colors import Normalize

POINTS = 100
"""Factor from a share to percentage points."""
_COLORS = "PuOr_r"
"""Diverging, and told apart by colour-blind readers too: purple below zero, orange above."""
_UNDECIDED = {"facecolor": "#f6f6f6", "edgecolor": "#d0d0d0", "hatch": "////", "linewidth": 0}
_PALE = "#757575"
_NARROWEST = 0.5
"""Smallest end of the scale, in points: smaller differences are not worth a strong colour."""
_DARK = 0.62
"""Share of the scale from which a cell is so dark that its number is white."""

Place = tuple[int, int]
"""Row and column of a cell; the first row is drawn at the bottom, as on an axis."""


class Map(NamedTuple):
    """The cells of one map; a place without a pair of runs is not among them."""

    title: str
    cells: Mapping[Place, Judgement]


def compare(table: Table, condition: str, versus: str, measure: str = "accuracy") -> Judgement | None:
    """Judge `condition` minus `versus`, "reproduced" if it is above zero; return None if no seed has both."""
    judgement = judge(table.by_seed(condition, measure), table.by_seed(versus, measure), "higher")
    return judgement if judgement.seeds else None


def is_decided(cell: Judgement) -> bool:
    """Tell whether the interval of a difference leaves zero out, by the rule of `judge`."""
    return cell.verdict != "undecided"


def scale_of(maps: Iterable[Map]) -> Normalize:
    """Return the scale that all maps of a figure share: as wide as their largest decided difference."""
    from matplotlib.colors import Normalize

    decided = [abs(cell.effect) for each in maps for cell in each.cells.values() if is_decided(cell)]
    widest = max([_NARROWEST, math.ceil(2 * POINTS * max(decided, default=0)) / 2])
    return Normalize(-widest, widest)


def draw_map(axes: Axes, shown: Map, scale: Normalize, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw the cells with their numbers in points, rows from the bottom; a place without a cell stays blank."""
    import matplotlib
    from matplotlib.patches import Rectangle

    drawing.heading(axes, shown.title)
    if not shown.cells:
        drawing.nothing(axes)
        return
    for (row, column), cell in shown.cells.items():
        corner, decided = (column - 0.5, row - 0.5), is_decided(cell)
        points = POINTS * cell.effect
        color = matplotlib.colormaps[_COLORS](scale(points))
        style = {"facecolor": color, "edgecolor": "white", "linewidth": 1} if decided else _UNDECIDED
        axes.add_patch(Rectangle(corner, 1, 1, **style))
        dark = decided and abs(points) > _DARK * (scale.vmax or 1)
        text = axes.text(column, row, signed(points), ha="center", va="center", fontsize=10)
        text.set_color(("white" if dark else "black") if decided else _PALE)
        if not decided:
            # Lines through a number make it hard to read.
            text.set_bbox({"facecolor": "#f6f6f6", "edgecolor": "none", "pad": 1})
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def signed(points: float) -> str:
    """Format a difference with its sign and one decimal, or two if one would show zero."""
    if abs(points) < 0.005:
        return "0"
    return f"{points:+.{1 if abs(points) >= 0.05 else 2}f}".replace("-", "−")


def key_below(figure: Figure, axes: Sequence[Axes], scale: Normalize, below: str, above: str) -> None:
    """Draw the scale of colours below the maps, with the words for purple and orange, and the mark of undecided."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Patch

    colors = ScalarMappable(scale, _COLORS)
    bar = figure.colorbar(colors, ax=list(axes), location="bottom", shrink=0.9, aspect=45, pad=0.03)
    bar.set_label(f"←  {below}      points of test accuracy      {above}  →")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    mark = Patch(**_UNDECIDED, label="undecided: the 95 % interval of the paired difference holds zero")
    figure.legend(handles=[mark], loc="outside lower center", frameon=False)
