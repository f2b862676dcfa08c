"""Tables of a summary, for pages and for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.errors import printable
from distill.reports.columns import (
    ABOVE_LABELS,
    ANY,
    AT_THE_OPTIMUM,
    CALIBRATION,
    CHOSEN_SMOOTHING,
    CLASS_NEVER_SEEN,
    COLUMNS,
    DARK_KNOWLEDGE,
    FIDELITY,
    INFORMATION,
    KNOWLEDGE,
    MEMORISATION,
    NAMED,
    OF_CACHES,
    PENULTIMATE,
    PREDICTION,
    SCALING,
    SOME_CLASSES_SEEN,
    TEACHERS_AND_STUDENTS,
    TEMPERATURE_SCALING,
    TRANSLATION,
    Column,
    columns_of,
)

ABSENT = "–"
"""What a cell without a value shows."""


_DATA_OF_PAPER = ("mnist", "cifar10", "cifar100")


VERDICTS = ("reproduced", "contradicted", "undecided")


@dataclass(frozen=True)
class Grid:
    """A table of text, with a caption."""

    caption: str
    header: list[str]
    rows: list[list[str]]


def comparison(
    summary: Mapping[str, Any], columns: Sequence[Column], caption: str, beside: Sequence[Column] = ()
) -> Grid | None:
    """Conditions as rows and measures as columns: mean ± half of the 95 % interval, and the number of seeds.

    Args:
        summary: of a report.
        columns: what the table is about.
        caption: of the table.
        beside: shown before them, for comparison.

    Returns:
        The table without the columns that nothing fills, and without conditions of which only what stands beside is
        known; None if nothing is left.
    """
    found = {(row["condition"], row["measure"]): row for row in summary["rows"]}
    measured, about = {measure for _, measure in found}, {column.measure for column in columns}
    if measured.isdisjoint(about):
        return None
    shown = [column for column in (*beside, *columns) if column.measure in measured]
    rows = []
    for condition in dict.fromkeys(condition for condition, _ in found):
        cells = [found.get((condition, column.measure)) for column in shown]
        if any(cell and cell["measure"] in about for cell in cells):
            texts = [_mean(cell, column) for cell, column in zip(cells, shown, strict=True)]
            rows.append([condition, _seeds([cell["seeds"] for cell in cells if cell]), *texts])
    return Grid(caption, ["condition", "seeds", *(column.heading for column in shown)], rows)


def main_tables(summary: Mapping[str, Any]) -> list[Grid]:
    """The result tables: what every network is measured by, then each subject that some network is measured by."""
    tables = (
        comparison(summary, TEACHERS_AND_STUDENTS, "Teachers and students"),
        comparison(summary, CLASS_NEVER_SEEN, "A class never seen in the transfer set"),
        comparison(summary, ABOVE_LABELS, "A class never seen: what exceeds the student of labels"),
        comparison(summary, SOME_CLASSES_SEEN, "Only some classes in the transfer set"),
        _by_cache(summary),
        comparison(summary, TEMPERATURE_SCALING, "Temperature scaling", beside=columns_of("ece", "nll")),
        comparison(summary, CALIBRATION, "Calibration", beside=columns_of("ece", "nll")),
        *(
            comparison(summary, columns, f"{method.capitalize()} scaling, fitted on held-out images")
            for method in ("temperature", "vector", "platt")
            if (columns := [column for column in SCALING if column.measure.startswith(f"{method}_")])
        ),
        comparison(summary, PENULTIMATE, "Penultimate activations"),
        comparison(summary, INFORMATION, "Mutual information"),
        comparison(summary, TRANSLATION, "Translation"),
        comparison(summary, DARK_KNOWLEDGE, "Dark knowledge"),
        comparison(summary, FIDELITY, "Fidelity to the teacher", beside=columns_of("agreement", "kl")),
        comparison(summary, KNOWLEDGE, "Knowledge and geometry, training and held-out images"),
        comparison(summary, PREDICTION, "What predicts the gain"),
        comparison(summary, CHOSEN_SMOOTHING, "Smoothing chosen", beside=columns_of("accuracy", "ece")),
        comparison(summary, AT_THE_OPTIMUM, "Where smoothed training ends, training images"),
        comparison(summary, MEMORISATION, "Wrong labels", beside=columns_of("accuracy", "held_out_accuracy")),
    )
    return [table for table in tables if table]


def paper_table(summary: Mapping[str, Any], only_numbers: bool = False) -> Grid | None:
    """What the paper prints beside what was measured here; None if there is nothing to show.

    Args:
        summary: of a report.
        only_numbers: leave out what is only drawn, and what nothing here corresponds to.
    """
    rows = []
    for entry in summary["published"]:
        column = COLUMNS.get(entry["measure"], ANY)
        measured = entry["mean"] is not None
        if not only_numbers or (measured and entry["value"] is not None):
            ours = _with_unit(_mean(entry, column), column)
            seeds = str(entry["seeds"]) if measured else ABSENT
            rows.append([entry["source"], _printed(entry, column), ours, seeds, _measured_as(entry)])
    return Grid("The paper and ours", ["source", "paper", "ours", "seeds", "ours is"], rows) if rows else None


def _printed(entry: Mapping[str, Any], column: Column) -> str:
    """A published value with as many digits as were given, in the unit of the column."""
    value, half = entry["value"], entry["half_width"]
    if value is None:
        return "only drawn"
    if isinstance(value, str):
        return value
    scale = 100 if column.percent else 1
    text = _minus(f"{scale * value:.10g}") + ("" if half is None else f"±{scale * half:.10g}")
    return _with_unit(text, column)


def _with_unit(text: str, column: Column) -> str:
    return f"{text} %" if column.heading.endswith("%") and text != ABSENT else text


def _measured_as(entry: Mapping[str, Any]) -> str:
    """Which measure of which condition stands beside a published value."""
    if entry["condition"] is None:
        return ABSENT
    return f"{_name(entry['measure'])} of {entry['condition']}" if entry["measure"] else entry["condition"]


def _name(measure: str) -> str:
    """A measure in words, without a unit."""
    return COLUMNS[measure].heading.removesuffix(" %") if measure in NAMED else measure.replace("_", " ")


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
    column = COLUMNS.get(claim["measure"])
    scale, unit = (100, " points") if column and column.percent else (1, "")
    text = f"effect {_signed(scale * claim['effect'])}{unit}"
    if claim["low"] is not None and claim["high"] is not None:
        text += f" [{_signed(scale * claim['low'])}, {_signed(scale * claim['high'])}]"
    if claim["p"] is not None:
        text += ", p < 0.001" if claim["p"] < 0.001 else f", p = {claim['p']:.2g}"
    return f"{text}, {seeds}"


@dataclass(frozen=True)
class Overview:
    """A report in one line."""

    counts: dict[str, int]
    """Verdict → number of claims."""
    seeds: str
    """One number, or the fewest and the most."""
    minutes: str


def overview_of(summary: Mapping[str, Any]) -> Overview:
    """How many claims got which verdict, over how many seeds, in how many minutes."""
    counts: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for claim in summary["claims"]:
        counts[claim["verdict"]] += 1
    seeds = _seeds([row["seeds"] for row in summary["rows"]] or [0])
    minutes = summary["provenance"].get("minutes")
    return Overview(counts, seeds, ABSENT if minutes is None else f"{minutes:.{0 if minutes >= 10 else 1}f}")


def place(summary: Mapping[str, Any]) -> tuple[float, str, str]:
    """Sorts by the first number of what an experiment reproduces; questions of our own come last."""
    number = re.search(r"\d+", summary["reproduces"])
    return float(number[0]) if number else math.inf, summary["reproduces"], summary["experiment"]


def caution(summary: Mapping[str, Any]) -> str:
    """A sentence where data, networks or schedules are not the paper's; else nothing."""
    of_paper, data, scale = summary["data_of_paper"], summary["data"], summary["scale"]
    if of_paper is None:
        return ""
    if data != of_paper or data not in _DATA_OF_PAPER:
        return f"Measured on {data}, which is not the paper's data: compare directions, not numbers."
    if scale != "paper":
        return f"Measured at scale {scale}, not with the paper's schedules: compare directions, not numbers."
    return ""


def with_evidence(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The claims of a summary, each with what its verdict rests on in words."""
    return [{**claim, "evidence": evidence(claim)} for claim in summary["claims"]]


def format_summary(summary: Mapping[str, Any]) -> str:
    """The summary for a terminal: result tables, one line per verdict, and the diverged runs if any."""
    blocks = [aligned(table) for table in main_tables(summary)]
    paper = paper_table(summary, only_numbers=True)
    if paper:
        blocks.append(aligned(paper))
    if summary["claims"]:
        blocks.append(_verdicts(summary["claims"]))
    diverged = diverged_table(summary)
    if diverged:
        blocks.append(aligned(diverged))
    return "\n\n".join(blocks) + "\n"


def format_overview(summaries: Sequence[Mapping[str, Any]]) -> str:
    """A line per report for a terminal: what it reproduces, on what, and how its claims fared."""
    rows = []
    for summary in sorted(summaries, key=place):
        found = overview_of(summary)
        counts = map(str, found.counts.values())
        rows.append(
            [
                summary["experiment"],
                summary["reproduces"] or ABSENT,
                summary["data"],
                found.seeds,
                *counts,
                found.minutes,
            ]
        )
    header = ["experiment", "in the paper", "data", "seeds", *VERDICTS, "minutes"]
    return aligned(Grid("All experiments", header, rows)) + "\n"


def _verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """One line per claim."""
    width = max(len(claim["statement"]) for claim in claims)
    return "\n".join(f"{claim['verdict']:<14}{claim['statement']:<{width}}   {evidence(claim)}" for claim in claims)


def aligned(table: Grid) -> str:
    """Monospace columns: text to the left, numbers to the right."""
    lines = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    numeric = [_numeric(table, index) for index in range(len(widths))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([printable(table.caption), rule, line(lines[0]), rule, *map(line, lines[1:])])


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
