"""A summary as people read it: which measure in which column, in which unit, with how many digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "–"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class Column:
    """How one measure is shown."""

    measure: str
    heading: str
    decimals: int
    percent: bool = False
    """Shown times 100: the measure is a share."""


@dataclass(frozen=True)
class Grid:
    """A table of text, with a caption."""

    caption: str
    header: list[str]
    rows: list[list[str]]


TEACHERS_AND_STUDENTS = (
    Column("accuracy", "accuracy %", 2, percent=True),
    Column("nll", "NLL", 3),
    Column("ece", "ECE %", 2, percent=True),
    Column("confidence", "confid. %", 2, percent=True),
    Column("interclass_variance", "variance", 2),
    Column("interclass_variance_relative", "/gap² %", 2, percent=True),
    Column("gap", "gap", 2),
    Column("optimal_gap", "optimum", 2),
    Column("agreement", "agree %", 1, percent=True),
    Column("kl", "KL", 3),
)
CLASS_NEVER_SEEN = (
    Column("unseen_recall", "recall %", 1, percent=True),
    Column("unseen_recall_corrected", "corrected recall %", 1, percent=True),
    Column("unseen_auc", "AUC", 3),
)
OF_CACHES = (
    Column("cache_bytes_per_view", "bytes/view", 0),
    Column("cache_tv_T1", "TV T=1 %", 3, percent=True),
    Column("cache_tv_T4", "TV T=4 %", 3, percent=True),
)
"""What students learned from: size of a view, and total variation distance of its distribution to the exact one."""
WITHOUT_COLUMN = (
    Column("interclass_variance_within", "variance within a class", 2),
    Column("interclass_variance_between", "variance between classes", 2),
)
_COLUMNS = {
    column.measure: column for column in (*TEACHERS_AND_STUDENTS, *CLASS_NEVER_SEEN, *OF_CACHES, *WITHOUT_COLUMN)
}
MEASURES = tuple(_COLUMNS)
"""Measures in the order in which reports list them; others follow by name."""


def columns_of(*measures: str) -> tuple[Column, ...]:
    """How these measures are shown, in this order."""
    return tuple(_COLUMNS[measure] for measure in measures)


def comparison(summary: Mapping[str, Any], columns: Sequence[Column], caption: str) -> Grid | None:
    """Conditions as rows and measures as columns: mean ± half of the 95 % interval, and the number of seeds.

    Returns:
        The table without the columns that nothing fills; None if that is all of them.
    """
    found = {(row["condition"], row["measure"]): row for row in summary["rows"]}
    shown = [column for column in columns if any(measure == column.measure for _, measure in found)]
    if not shown:
        return None
    rows = []
    for condition in dict.fromkeys(condition for condition, _ in found):
        cells = [found.get((condition, column.measure)) for column in shown]
        if any(cells):
            texts = [_mean(cell, column) for cell, column in zip(cells, shown, strict=True)]
            rows.append([condition, _seeds([cell["seeds"] for cell in cells if cell]), *texts])
    return Grid(caption, ["condition", "seeds", *(column.heading for column in shown)], rows)


def main_tables(summary: Mapping[str, Any]) -> list[Grid]:
    """The result tables: on all classes, on a class that students never saw, and by cache where caches differ."""
    tables = (
        comparison(summary, TEACHERS_AND_STUDENTS, "Teachers and students"),
        comparison(summary, CLASS_NEVER_SEEN, "A class never seen in the transfer set"),
        _by_cache(summary),
    )
    return [table for table in tables if table]


def _by_cache(summary: Mapping[str, Any]) -> Grid | None:
    """What caches hold, beside what came of it; None if all are of one size, so that nothing is compared."""
    sizes = {row["mean"] for row in summary["rows"] if row["measure"] == "cache_bytes_per_view"}
    if len(sizes) < 2:
        return None
    of_students = columns_of("accuracy", "nll", "agreement", "kl", "interclass_variance_relative")
    return comparison(summary, (*OF_CACHES, *of_students), "Caches and what came of them")


def all_rows(summary: Mapping[str, Any]) -> Grid:
    """Every row of the summary, one measure of one condition each, in its own unit."""
    rows = [
        [
            row["measure"],
            row["condition"],
            *(_plain(row[name]) for name in ("mean", "low", "high")),
            str(row["seeds"]),
        ]
        for row in summary["rows"]
    ]
    return Grid("Every measure", ["measure", "condition", "mean", "low", "high", "seeds"], rows)


def diverged_table(summary: Mapping[str, Any]) -> Grid | None:
    """The runs that no mean includes, with the reason; None if there are none."""
    rows = [
        [
            run["condition"],
            str(run["seed"]),
            ABSENT if run["unseen"] is None else str(run["unseen"]),
            run["reason"],
        ]
        for run in summary["diverged"]
    ]
    caption = "Diverged runs, left out of every mean"
    return Grid(caption, ["condition", "seed", "class left out", "reason"], rows) if rows else None


def evidence(claim: Mapping[str, Any]) -> str:
    """What a verdict rests on: "effect −1.23 [−1.4, −1.1], p < 0.001, 10 seeds"."""
    seeds = f"{claim['seeds']} seed" + ("" if claim["seeds"] == 1 else "s")
    if claim["effect"] is None:
        return f"nothing to compare, {seeds}"
    column = _COLUMNS.get(claim["measure"])
    scale, unit = (100, " points") if column and column.percent else (1, "")
    text = f"effect {_signed(scale * claim['effect'])}{unit}"
    if claim["low"] is not None and claim["high"] is not None:
        text += f" [{_signed(scale * claim['low'])}, {_signed(scale * claim['high'])}]"
    if claim["p"] is not None:
        text += ", p < 0.001" if claim["p"] < 0.001 else f", p = {claim['p']:.2g}"
    return f"{text}, {seeds}"


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary for a terminal: result tables, one line per verdict, and the diverged runs if any."""
    blocks = [_aligned(table) for table in main_tables(summary)]
    if summary["claims"]:
        blocks.append(_verdicts(summary["claims"]))
    diverged = diverged_table(summary)
    if diverged:
        blocks.append(_aligned(diverged))
    return "\n\n".join(blocks) + "\n"


def _verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """One line per claim."""
    width = max(len(claim["statement"]) for claim in claims)
    return "\n".join(f"{claim['verdict']:<14}{claim['statement']:<{width}}   {evidence(claim)}" for claim in claims)


def _aligned(table: Grid) -> str:
    """Monospace columns: text to the left, numbers to the right."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    numeric = [_numeric(table, index) for index in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([table.caption, rule, line(table.header), rule, *map(line, table.rows)])


def _numeric(table: Grid, index: int) -> bool:
    """Whether a column starts with a digit or is absent in each of its cells."""
    return all(row[index] == ABSENT or row[index].lstrip("−")[:1].isdigit() for row in table.rows)


def _mean(row: Mapping[str, Any] | None, column: Column) -> str:
    """Mean ± half-interval in the column's unit; no interval where there is none (one seed, or a constant)."""
    if row is None or row["mean"] is None:
        return ABSENT
    scale = 100 if column.percent else 1
    text = _minus(f"{scale * row['mean']:.{column.decimals}f}")
    if row["low"] is None or row["high"] is None or row["high"] == row["low"]:
        return text
    return f"{text}±{scale * (row['high'] - row['low']) / 2:.{column.decimals}f}"


def _seeds(counts: Sequence[int]) -> str:
    """How many seeds a line of means rests on: one number, or a range."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _plain(value: float | None) -> str:
    return ABSENT if value is None else _minus(f"{value:.4g}")


def _signed(value: float) -> str:
    # Differences that cancel leave a rounding error, which would read as a number; the sum turns -0 into 0.
    return _minus(f"{round(value, 12) + 0.0:+.3g}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
