"""Show the results of a sweep over smoothing: answers and a figure, on a page and in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.metrics.choice import listed
from distill.reports.pages import add_image, read_drawing, render, write_figures
from distill.reports.tables import Grid, aligned, all_rows, diverged_table, main_tables
from distill.training.tracking import summary_writer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "sweep"
_LINE = "#0072B2"
_CHOSEN = "#D55E00"
_WORDS = {"held_out": "held-out images", "test": "test images"}

CAUTION = (
    "Not told apart: the 95 % interval of the paired difference over seeds includes 0, or there are fewer than "
    "three seeds. Each comparison has its own interval, without correction for their number or for having looked "
    "which is best: of six strengths that are all alike, the best looks credibly better than no smoothing in about "
    "one sweep of fifteen."
)
"""Text that is shown below the answers."""
_READ_WITH = (
    "Training losses of different smoothing cannot be compared; NLL is of hard labels. Gap is accuracy less "
    "confidence: above 0 a network is less sure than it could be."
)


def write_page(sweep: Mapping[str, Any], recipe: str, folder: Path) -> None:
    """Write a sweep's results to a folder: a page, its figure as SVG and PNG, and figure and answers in `tb/`.

    Args:
        sweep: content of `sweep.json`.
        recipe: name of the recipe of the networks.
        folder: an existing folder.
    """
    figure = draw(sweep)
    write_figures({FIGURE: figure}, folder)
    seeds = len(sweep["seeds"])
    introduction = (
        f"One recipe, {len(sweep['smoothings'])} strengths of smoothing, {seeds} seed{'s' if seeds != 1 else ''}; "
        "networks of one seed have the same initial weights and see samples in the same order. Held-out images "
        "choose; the test set is only measured."
    )
    title = f"How much label smoothing, for what use? {recipe}"
    summary = {"title": title, "introduction": introduction, "reproduces": "", "data": sweep["data"], "scale": ""}
    page = {
        "summary": summary,
        "answers": answers(sweep),
        "notes": [CAUTION, *sweep["notes"], _READ_WITH],
        "drawings": [read_drawing(folder / f"{FIGURE}.svg", FIGURE, str(figure.get_label()))],
        "tables": tables(sweep),
        "diverged": diverged_table(_as_summary(sweep, "held_out")),
        "rows": all_rows(_of_both(sweep)),
        **dict.fromkeys(("claims", "cells", "paper", "caution", "left_out", "provenance"), ()),
    }
    (folder / "index.html").write_text(render("report.html.j2", page), encoding="utf-8")
    with summary_writer(folder / "tb") as writer:
        add_image(writer, "sweep/smoothing", folder / f"{FIGURE}.png")
        lines = [f"**{each['verdict']}: {each['statement']}** {each['evidence']}" for each in page["answers"]]
        writer.add_text("sweep/answers", "\n\n".join([*lines, CAUTION, *sweep["notes"]]))


def answers(sweep: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return which smoothing suits accuracy, calibration and teaching, and why, as page templates show verdicts."""
    told = []
    for use, choice in sweep["choices"].items():
        alike = choice["undecided"]
        take = f"ε = {choice['smoothing']:g}" + (f" (not told apart from {listed(alike)})" if alike else "")
        told.append({"verdict": use, "statement": take, "evidence": choice["reason"]})
    return told


def tables(sweep: Mapping[str, Any]) -> list[Grid]:
    """Make tables of means with intervals: first of held-out images, then of the test set."""
    shown = (table for split in _WORDS for table in main_tables(_as_summary(sweep, split)))
    return [Grid(table.caption, ["smoothing", *table.header[1:]], table.rows) for table in shown]


def format_sweep(sweep: Mapping[str, Any]) -> str:
    """Format the tables, the answers, and what was left out, for a terminal."""
    indent = " " * 13
    wrapped = textwrap.TextWrapper(110, initial_indent=indent, subsequent_indent=indent).fill
    blocks = [aligned(table) for table in tables(sweep)]
    for answer in answers(sweep):
        blocks.append(f"{answer['verdict']:12} {answer['statement']}\n{wrapped(answer['evidence'])}")
    blocks += [wrapped(note).replace(" " * 4, "note", 1) for note in [CAUTION, *sweep["notes"]]]
    for run in sweep["diverged"]:
        left_out = f"ε = {run['smoothing']:g}, seed {run['seed']}, left out: {run['reason']}"
        blocks.append(f"diverged     {left_out}")
    return "\n\n".join(blocks) + "\n"


def _as_summary(sweep: Mapping[str, Any], split: str) -> dict[str, Any]:
    """Bring the results of one split into the form of a report's summary."""
    return {
        "columns": sweep["columns"][split],
        "rows": [
            {**row, "condition": f"ε={row['smoothing']:g}", "seeds": len(row["values"])}
            for row in sweep["rows"]
            if row["split"] == split
        ],
        "diverged": [{**run, "condition": f"ε={run['smoothing']:g}", "unseen": None} for run in sweep["diverged"]],
    }


def _of_both(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Join the rows of both splits (held-out and test images), and name the split in each row's condition."""
    rows = ((words, row) for split, words in _WORDS.items() for row in _as_summary(sweep, split)["rows"])
    return {"rows": [{**row, "condition": f"{row['condition']}, {words}"} for words, row in rows]}


def draw(sweep: Mapping[str, Any]) -> Figure:
    """Draw accuracy, ECE and relative inter-class variance of held-out images over the smoothing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 7.6), facecolor="white", layout="constrained")
    figure.set_label(
        "Accuracy, calibration error and what there is to teach, on held-out images. Diamond: what to take for "
        "this use; for teaching, of the strengths that are not credibly less accurate than the best. Hollow: what "
        "the seeds do not tell from it. Bars: 95 % intervals over seeds."
    )
    accuracy, ece, variance = figure.subplots(3, 1, sharex=True)
    _line(accuracy, sweep, "accuracy", "accuracy", logarithmic=False)
    accuracy.set_ylabel("accuracy, %")
    _line(ece, sweep, "ece", "calibration")
    ece.set_ylabel("ECE, %")
    if scaled := _rows(sweep, "scaled_ece").get(0.0):
        name = "without smoothing, after temperature scaling"
        ece.axhline(100 * scaled["mean"], color="#444444", linestyle="--", linewidth=1.4, label=name)
    _line(variance, sweep, "interclass_variance_relative", "teaching")
    variance.set_ylabel("inter-class variance\nover squared gap, %")
    variance.set_xlabel("label smoothing ε")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, loc="best")
    return figure


def _rows(sweep: Mapping[str, Any], measure: str) -> dict[float, Mapping[str, Any]]:
    """Map each smoothing, weakest first, to the row of a measure on held-out images."""
    rows = [row for row in sweep["rows"] if (row["split"], row["measure"]) == ("held_out", measure)]
    return {row["smoothing"]: row for row in sorted(rows, key=lambda row: row["smoothing"])}


def _line(axes: Axes, sweep: Mapping[str, Any], measure: str, use: str, logarithmic: bool = True) -> None:
    rows, choice = _rows(sweep, measure), sweep["choices"][use]
    means = {smoothing: 100 * row["mean"] for smoothing, row in rows.items()}
    halves = [0.0 if row["low"] is None else 100 * (row["mean"] - row["low"]) for row in rows.values()]
    if logarithmic and min(means.values()) > 0:
        _logarithmic(axes)
        # An interval that reaches 0 would have no end.
        halves = [min(half, 0.99 * mean) for half, mean in zip(halves, means.values(), strict=True)]
    axes.errorbar(
        list(means), list(means.values()), halves, color=_LINE, linewidth=1.6, elinewidth=1.4, capsize=2.5
    )
    taken, undecided = choice["smoothing"], choice["undecided"]
    apart = [smoothing for smoothing in means if smoothing not in (*undecided, taken)]
    hollow = {"markerfacecolor": "white", "markeredgecolor": _LINE}
    for strengths, style in (
        (apart, {"marker": "o", "color": _LINE, "markersize": 5.5}),
        (undecided, {"marker": "o", "color": _LINE, "markersize": 5.5, **hollow}),
        ([taken], {"marker": "D", "color": _CHOSEN, "markersize": 8, "label": f"for {use}: ε = {taken:g}"}),
    ):
        axes.plot(strengths, [means[each] for each in strengths], linestyle="none", zorder=5, **style)


def _logarithmic(axes: Axes) -> None:
    """Give axes a logarithmic y axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
