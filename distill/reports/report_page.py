"""Write the page, the text and the figures of one experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.config import ReportConfig
from distill.errors import printable
from distill.reports.answer import answer_of
from distill.reports.experiment import Experiment, Table
from distill.reports.notebook import for_pages
from distill.reports.pages import add_image, figure_file, read_drawing, render, write_figures
from distill.reports.summary import summarise
from distill.reports.tables import all_rows, caution, diverged_table, main_tables, paper_table, with_evidence
from distill.system.reading import read_json
from distill.training.tracking import summary_writer

_LONGEST_NAME = 60
"""Longest name of a class in a figure, in characters."""


def write_report(
    config: ReportConfig, experiment: Experiment, title: str, table: Table, provenance: Mapping[str, Any], out: Path
) -> dict[str, Any]:
    """Write index.html (self-contained), report.md, summary.json, table.csv and figures/ into a folder.

    Equal tables give equal bytes. A figure's label (`Figure.set_label`) is its caption. Cells of the experiment are
    run here.

    Args:
        config: config of the report.
        experiment: its claims, its published numbers and how to draw it; its docstring is the introduction.
        title: heading of the pages.
        table: what was measured.
        provenance: where the numbers come from; anything JSON can express.
        out: an existing folder.

    Returns:
        The summary, as summary.json has it.
    """
    figures = experiment.draw(_for_figures(table))
    summary = summarise(config, experiment, title, table, provenance, figures)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (out / "summary.json").write_text(text, encoding="utf-8")
    _write_table(table, out / "table.csv")
    write_figures(figures, out / "figures")
    page = results(summary, out.joinpath) | {
        "left_out": _left_out(table),
        "diverged": diverged_table(summary),
        "cells": for_pages(summary.get("cells", ())),
        "rows": all_rows(summary),
        "provenance": json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
    }
    (out / "index.html").write_text(render("report.html.j2", page), encoding="utf-8")
    (out / "report.md").write_text(render("report.md.j2", page), encoding="utf-8")
    return summary


def results(summary: Mapping[str, Any], file: Callable[[str], Path]) -> dict[str, Any]:
    """Return, as template variables, what a report's own page and the page of all reports show from its summary.

    Args:
        summary: summary of the report.
        file: maps the name of a file of the report to its path.
    """
    figures = summary["figures"]
    return {
        "summary": summary,
        "answer": answer_of(summary),
        "claims": with_evidence(summary),
        "drawings": [read_drawing(file(figure_file(figure["name"])), **figure) for figure in figures],
        "tables": main_tables(summary),
        "paper": paper_table(summary),
        "caution": caution(summary),
    }


def _for_figures(table: Table) -> Table:
    """Copy a table with class names that matplotlib draws as they are."""
    # "$" would begin a formula.
    names = (name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in table.classes)
    return replace(table, classes=tuple(printable(name).replace("$", r"\$") for name in names))


def log_figures(report: Path) -> None:
    """Write the figures of a report as TensorBoard images, their captions as text, to `tb/` in its folder."""
    # Not part of `write_report`, since the files of TensorBoard hold the time and the machine.
    summary = read_json(report / "summary.json")
    with summary_writer(report / "tb") as writer:
        for figure in summary["figures"]:
            name = f"{summary['experiment']}/{figure['name']}"
            add_image(writer, name, report / "figures" / f"{figure['name']}.png")
            writer.add_text(name, figure["caption"])


def _write_table(table: Table, path: Path) -> None:
    """Write every value of a table on a line of its own, as CSV; `unseen` is empty for runs on all classes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["condition", "seed", "unseen", "measure", "value"])
        for label, measures in table.values.items():
            # `csv` leaves the cell of a None empty.
            writer.writerows([*label, name, measures[name]] for name in sorted(measures))


def _left_out(table: Table) -> list[str]:
    """Return the names of the classes that some student never saw."""
    classes = sorted({label.unseen for label in table.values if label.unseen is not None})
    return [table.classes[index] if index < len(table.classes) else str(index) for index in classes]
