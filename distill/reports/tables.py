"""Make the tables of a report from its summary, for pages and for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from distill.errors import printable
from distill.metrics.measures import Measure
from distill.metrics.verdict import CONFIDENCE, Verdict, holm
from distill.reports.answer import answer_of
from distill.reports.columns import UNKNOWN, Columns, read_columns

ABSENT = "–"
"""Text of a cell without a value."""
VERDICTS = get_args(Verdict)


class Grid(NamedTuple):
    """Hold a table of text, with a caption."""

    caption: str
    header: list[str]
    rows: list[list[str]]


def comparison(
    summary: Mapping[str, Any], columns: Sequence[Measure], caption: str, beside: Sequence[Measure] = ()
) -> Grid | None:
    """Make a table with conditions as rows and measures as columns.

    A cell shows the mean ± half of the 95 % interval; a column shows the number of seeds. Columns without a value
    are left out, and so are conditions that have values in columns of `beside` only.

    Args:
        summary: summary of a report.
        columns: measures that the table is about.
        caption: caption of the table.
        beside: measures that are shown before the columns, for comparison.

    Returns:
        The table; None if nothing is left of it.
    """
    values = {(row["condition"], row["measure"]): row for row in summary["rows"]}
    measured, about = {measure for _, measure in values}, {column.name for column in columns}
    if measured.isdisjoint(about):
        return None
    shown = [column for column in (*beside, *columns) if column.name in measured]
    rows = []
    for condition in dict.fromkeys(condition for condition, _ in values):
        cells = [values.get((condition, column.name)) for column in shown]
        if any(cell and cell["measure"] in about for cell in cells):
            texts = [_mean(cell, column) for cell, column in zip(cells, shown, strict=True)]
            rows.append([condition, _seeds([cell["seeds"] for cell in cells if cell]), *texts])
    return Grid(caption, ["condition", "seeds", *(column.title for column in shown)], rows)


def main_tables(summary: Mapping[str, Any]) -> list[Grid]:
    """List the result tables, one for each topic of the measures of the summary, in the order of the topics."""
    columns = read_columns(summary)
    topics = dict.fromkeys(column.topic for column in columns.values() if column.topic)
    tables = []
    for topic in topics:
        own = [column for column in columns.values() if column.topic == topic]
        if topic.varies and len({row["mean"] for row in summary["rows"] if row["measure"] == own[0].name}) < 2:
            continue
        beside = [columns[name] for name in topic.beside if name in columns]
        tables.append(comparison(summary, own, topic.caption, beside))
    return [table for table in tables if table]


def paper_table(summary: Mapping[str, Any], only_numbers: bool = False) -> Grid | None:
    """Make a table of the paper's numbers, a replication's where there is one, and ours; None if all is empty.

    Args:
        summary: summary of a report.
        only_numbers: leave out values that the paper only draws, and values to which nothing here corresponds.
    """
    if not summary["published"]:
        return None
    columns, rows = read_columns(summary), []
    replicated = any(entry.get("replication") is not None for entry in summary["published"])
    for entry in summary["published"]:
        column, again = columns.get(entry["measure"], UNKNOWN), entry.get("replication")
        measured = entry["mean"] is not None
        if not only_numbers or (measured and (entry["value"] is not None or again is not None)):
            printed = [_printed(entry["value"], entry["half_width"], column)]
            printed += [ABSENT if again is None else _printed(again, None, column)] if replicated else []
            ours = _with_unit(_mean(entry, column), column)
            seeds = str(entry["seeds"]) if measured else ABSENT
            rows.append([entry["source"], *printed, ours, seeds, _measured_as(entry, column)])
    caption = "The paper, a replication and ours" if replicated else "The paper and ours"
    header = ["source", "paper", *(["replication"] if replicated else []), "ours", "seeds", "ours is"]
    return Grid(caption, header, rows) if rows else None


def _printed(value: float | str | None, half: float | None, column: Measure) -> str:
    """Format a published value with as many digits as were given, in the unit of the column."""
    if value is None:
        return "only drawn"
    if isinstance(value, str):
        return value
    scale = column.factor
    text = _minus(f"{scale * value:.10g}") + ("" if half is None else f"±{scale * half:.10g}")
    return _with_unit(text, column)


def _with_unit(text: str, column: Measure) -> str:
    """Add the percent sign to a value that is shown in percent."""
    return f"{text} %" if column.unit == "%" and text != ABSENT else text


def _measured_as(entry: Mapping[str, Any], column: Measure) -> str:
    """Say which measure, of which condition, stands beside a published value."""
    if entry["condition"] is None:
        return ABSENT
    if not entry["measure"]:
        return entry["condition"]
    name = column.heading if column.stands_alone else entry["measure"].replace("_", " ")
    return f"{name} of {entry['condition']}"


def all_rows(summary: Mapping[str, Any]) -> Grid:
    """Make a table of every row of the summary: one measure of one condition each, in its own unit."""
    numbers = ("mean", "low", "high")
    rows = [
        [row["measure"], row["condition"], *(_plain(row[name]) for name in numbers), str(row["seeds"])]
        for row in summary["rows"]
    ]
    return Grid("Every measure", ["measure", "condition", *numbers, "seeds"], rows)


def diverged_table(summary: Mapping[str, Any]) -> Grid | None:
    """Make a table of the runs that no mean includes, with the reason; return None if there are none."""
    caption, rows = "Diverged runs, left out of every mean", []
    for run in summary["diverged"]:
        unseen = ABSENT if run["unseen"] is None else str(run["unseen"])
        rows.append([run["condition"], str(run["seed"]), unseen, run["reason"]])
    return Grid(caption, ["condition", "seed", "class left out", "reason"], rows) if rows else None


def evidence(claim: Mapping[str, Any], columns: Columns) -> str:
    """Say what a verdict rests on: "effect −1.23 [−1.4, −1.1], p < 0.001, Holm = 0.004, 10 seeds"."""
    seeds = f"{claim['seeds']} seed" + ("" if claim["seeds"] == 1 else "s")
    if claim["effect"] is None:
        return f"nothing to compare, {seeds}"
    scale = columns.get(claim["measure"], UNKNOWN).factor
    unit = " points" if scale == 100 else ""
    text = f"effect {_signed(scale * claim['effect'])}{unit}"
    if claim["low"] is not None and claim["high"] is not None:
        text += f" [{_signed(scale * claim['low'])}, {_signed(scale * claim['high'])}]"
    if claim["p"] is not None:
        text += f", {_p('p', claim['p'])}"
    if claim.get("holm") is not None and claim["verdict"] != "undecided":
        text += f", {_p('Holm', claim['holm'])}{'' if claim['holm'] < 1 - CONFIDENCE else ': undecided'}"
    return f"{text}, {seeds}"


def _p(name: str, p: float) -> str:
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.2g}"


class Overview(NamedTuple):
    """Hold what one line about a report shows: its verdicts, seeds and minutes."""

    counts: dict[str, int]
    """Verdict → number of claims."""
    seeds: str
    """Number of seeds, or the fewest and the most."""
    minutes: str


def overview_of(summary: Mapping[str, Any]) -> Overview:
    """Count how many claims got which verdict, over how many seeds, in how many minutes."""
    counts: dict[str, int] = dict.fromkeys(VERDICTS, 0)
    for claim in summary["claims"]:
        counts[claim["verdict"]] += 1
    seeds = _seeds([row["seeds"] for row in summary["rows"]] or [0])
    minutes = summary["provenance"].get("minutes")
    return Overview(counts, seeds, ABSENT if minutes is None else f"{minutes:.{0 if minutes >= 10 else 1}f}")


def paper_order(summary: Mapping[str, Any]) -> tuple[float, str, str]:
    """Return a key that sorts experiments by the number of the figure that they reproduce, others last."""
    number = re.search(r"\d+", summary["reproduces"])
    return float(number[0]) if number else math.inf, summary["reproduces"], summary["experiment"]


def caution(summary: Mapping[str, Any]) -> str:
    """Return sentences on whose numbers a replication's are, and that data or schedules are not the paper's."""
    return " ".join(filter(None, [summary.get("replication", ""), _departure(summary)]))


def _departure(summary: Mapping[str, Any]) -> str:
    of_paper, data, scale = summary["data_of_paper"], summary["data"], summary["scale"]
    if of_paper is None:
        return ""
    if data != of_paper:
        return f"Measured on {data}, which is not the paper's data: compare directions, not numbers."
    if scale != "paper":
        return f"Measured at scale {scale}, not with the paper's schedules: compare directions, not numbers."
    return ""


def with_evidence(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the claims of a summary, each with its p after Holm's correction and a sentence of evidence."""
    columns, claims = read_columns(summary), summary["claims"]
    corrected = holm([math.nan if claim["p"] is None else claim["p"] for claim in claims])
    told = [{**claim, "holm": None if math.isnan(p) else p} for claim, p in zip(claims, corrected, strict=True)]
    return [{**claim, "evidence": evidence(claim, columns)} for claim in told]


def decided_after_holm(summary: Mapping[str, Any]) -> int:
    """Count the claims whose verdict stands after Holm's correction for the number of claims."""
    told = with_evidence(summary)
    return sum(claim["verdict"] != "undecided" and claim["holm"] < 1 - CONFIDENCE for claim in told)


def format_summary(summary: Mapping[str, Any], tables: bool = False) -> str:
    """Format a summary for a terminal: the answer, one line per verdict, and the diverged runs if any.

    Args:
        summary: summary of a report.
        tables: show the result tables too, before the answer.
    """
    shown = [*main_tables(summary), paper_table(summary, only_numbers=True)] if tables else []
    blocks = [aligned(table) for table in shown if table]
    if summary["claims"]:
        blocks += [printable(answer_of(summary)), _verdicts(with_evidence(summary))]
    if diverged := diverged_table(summary):
        blocks.append(aligned(diverged))
    return "\n\n".join(blocks) + "\n"


def format_overview(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Format one line per report for a terminal: what it reproduces, on what, and how its claims fared."""
    rows = []
    for summary in sorted(summaries, key=paper_order):
        counts, seeds, minutes = overview_of(summary)
        about = [summary["experiment"], summary["reproduces"] or ABSENT, summary["data"]]
        rows.append([*about, seeds, *map(str, counts.values()), minutes])
    header = ["experiment", "in the paper", "data", "seeds", *VERDICTS, "minutes"]
    return aligned(Grid("All experiments", header, rows)) + "\n"


def _verdicts(claims: Sequence[Mapping[str, Any]]) -> str:
    """Format one line per claim."""
    width = max(len(claim["statement"]) for claim in claims)
    return "\n".join(
        f"{claim['verdict']:<14}{claim['statement']:<{width}}   {claim['evidence']}" for claim in claims
    )


def aligned(table: Grid) -> str:
    """Format a table in monospace columns: text to the left, numbers to the right."""
    lines = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # Cells of a column of numbers start with a digit, or are absent.
    numeric = [
        all(row[index] == ABSENT or row[index].lstrip("−")[:1].isdigit() for row in table.rows)
        for index in range(len(widths))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([printable(table.caption), rule, line(lines[0]), rule, *map(line, lines[1:])])


def _mean(row: Mapping[str, Any] | None, column: Measure) -> str:
    """Format the mean in the column's unit, with ± half of the interval where there is one."""
    # One seed has no interval, nor has a constant.
    if row is None or row["mean"] is None:
        return ABSENT
    scale = column.factor
    text = _minus(f"{scale * row['mean']:.{column.decimals}f}")
    if row["low"] is None or row["high"] is None or row["high"] == row["low"]:
        return text
    return f"{text}±{scale * (row['high'] - row['low']) / 2:.{column.decimals}f}"


def _seeds(counts: Sequence[int]) -> str:
    """Format the number of seeds behind the means of a row: one number, or a range where columns differ."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}–{high}"


def _plain(value: float | None) -> str:
    return ABSENT if value is None else _minus(f"{value:.4g}")


def _signed(value: float) -> str:
    # Differences that cancel leave a rounding error, which would read as a number. Adding 0.0 turns -0 into 0.
    return _minus(f"{round(value, 12) + 0.0:+.3g}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
