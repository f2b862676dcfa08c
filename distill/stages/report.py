"""The report stage: what an experiment measured becomes figures, tables and verdicts that people can read."""

from __future__ import annotations

import csv
import inspect
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from distill.config import ReportConfig
from distill.errors import printable
from distill.experiment import Claim, Experiment, Published, Table
from distill.metrics.verdict import interval, judge
from distill.reading import read_json
from distill.stages.notebook import for_pages, run_cells
from distill.stages.pages import figure_file, read_drawing, render
from distill.stages.report_tables import (
    MEASURES,
    all_rows,
    caution,
    diverged_table,
    main_tables,
    paper_table,
    with_evidence,
)
from distill.tracking import board

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PNG_DPI = 160
_LONGEST_NAME = 60
"""Of a class, in a figure."""


def write_report(
    config: ReportConfig,
    experiment: Experiment,
    title: str,
    table: Table,
    provenance: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Write index.html (self-contained), report.md, summary.json, table.csv and figures/ into a folder.

    The same table gives the same bytes. A figure's label (`Figure.set_label`) is its caption. Cells of the
    experiment are run here.

    Args:
        config: what the report is of.
        experiment: its claims, its published numbers and how to draw it; its docstring is the introduction.
        title: heading of the pages.
        table: what was measured.
        provenance: where the numbers come from; anything JSON can say.
        out: an existing folder.

    Returns:
        The summary, as summary.json has it.
    """
    figures = experiment.draw(_for_figures(table))
    summary = summarise(config, experiment, title, table, provenance, figures)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (out / "summary.json").write_text(text, encoding="utf-8")
    _write_table(table, out / "table.csv")
    _write_figures(figures, out / "figures")
    page = {
        "summary": summary,
        "claims": with_evidence(summary),
        "drawings": [read_drawing(out / figure_file(figure["name"]), **figure) for figure in summary["figures"]],
        "tables": main_tables(summary),
        "paper": paper_table(summary),
        "caution": caution(summary),
        "left_out": _left_out(table),
        "diverged": diverged_table(summary),
        "cells": for_pages(summary.get("cells", ())),
        "rows": all_rows(summary),
        "provenance": json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
    }
    (out / "index.html").write_text(render("report.html.j2", page), encoding="utf-8")
    (out / "report.md").write_text(render("report.md.j2", page), encoding="utf-8")
    return summary


def _for_figures(table: Table) -> Table:
    """The same with names of classes that matplotlib writes as they are: "$" would begin a formula."""
    names = (name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in table.classes)
    return replace(table, classes=tuple(printable(name).replace("$", r"\$") for name in names))


def log_figures(report: Path) -> None:
    """Write the figures of a report as TensorBoard images, their captions as text, to `tb/` in its folder.

    Not part of `write_report`: TensorBoard's files hold the time and the machine.
    """
    import numpy as np
    from PIL import Image

    summary = read_json(report / "summary.json")
    with board(report / "tb") as writer:
        for figure in summary["figures"]:
            name = f"{summary['experiment']}/{figure['name']}"
            with Image.open(report / "figures" / f"{figure['name']}.png") as image:
                writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")
            writer.add_text(name, figure["caption"])


def summarise(
    config: ReportConfig,
    experiment: Experiment,
    title: str,
    table: Table,
    provenance: Mapping[str, Any],
    figures: Mapping[str, object],
) -> dict[str, Any]:
    """What a report says, all of it valid JSON: null for what is not finite.

    Means with intervals, verdicts, diverged runs, the paper's numbers beside ours, which figures there are, and,
    of an experiment that has `CELLS`, what they say.
    """
    rows = list(_rows(table))
    cells = run_cells(getattr(experiment, "CELLS", ()))
    return _as_json(
        {
            "experiment": config.experiment,
            "title": title,
            "introduction": _introduction(experiment, title),
            "reproduces": experiment.REPRODUCES,
            "scale": config.scale,
            "data": config.data,
            # A question of our own has no data set in the paper.
            "data_of_paper": experiment.DATA["paper"] if experiment.REPRODUCES else None,
            "rows": rows,
            "claims": [_judged(claim, table) for claim in experiment.CLAIMS],
            "published": [_beside_ours(entry, rows) for entry in experiment.PAPER],
            "diverged": [{**label._asdict(), "reason": reason} for label, reason in table.diverged.items()],
            "figures": [{"name": name, "caption": _caption(name, drawn)} for name, drawn in figures.items()],
            **({"cells": cells} if cells else {}),
            "provenance": provenance,
        }
    )


def _beside_ours(entry: Published, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A published value with the row that corresponds to it, empty where there is none."""
    mine = (row for row in rows if (row["condition"], row["measure"]) == (entry.condition, entry.measure))
    ours = next(mine, {"mean": None, "low": None, "high": None, "seeds": 0})
    return vars(entry) | {name: ours[name] for name in ("mean", "low", "high", "seeds")}


def _caption(name: str, figure: object) -> str:
    return str(cast("Figure", figure).get_label()) or name.replace("_", " ")


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    """One row per condition and measure that has a value."""
    measured = {measure for measures in table.values.values() for measure in measures}
    order = [*(name for name in MEASURES if name in measured), *sorted(measured.difference(MEASURES))]
    for condition in table.conditions():
        for measure in order:
            values = _by_seed(table, condition, measure)
            if values:
                # A mean that includes an infinite value is null, not the mean of the others.
                finite = all(map(math.isfinite, values.values()))
                mean, low, high = interval(values[seed] for seed in sorted(values)) if finite else [math.nan] * 3
                yield {
                    "measure": measure,
                    "condition": condition,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "seeds": len(values),
                }


def _judged(claim: Claim, table: Table) -> dict[str, Any]:
    """A claim with its verdict."""
    verdict = judge(
        _by_seed(table, claim.condition, claim.measure),
        _by_seed(table, claim.versus, claim.versus_measure or claim.measure),
        claim.direction,
    )
    return {
        "id": claim.id,
        "statement": claim.statement,
        "verdict": verdict.verdict,
        "effect": verdict.effect,
        "low": verdict.low,
        "high": verdict.high,
        "p": verdict.p,
        "measure": claim.measure,
        "seeds": verdict.seeds,
    }


def _by_seed(table: Table, condition: str, measure: str) -> dict[int, float]:
    """Seed → value: measures of an unseen class from the runs that left one out, the others from whole runs."""
    left_out = any(at.condition == condition and at.unseen is not None for at in [*table.values, *table.diverged])
    return table.by_seed(condition, measure, unseen=left_out and measure.startswith("unseen_"))


def _as_json(value: Any) -> Any:
    """The same with null for numbers that JSON cannot say, and text for objects it does not know."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _write_table(table: Table, path: Path) -> None:
    """Every value on a line of its own; `unseen` is empty for runs on all classes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["condition", "seed", "unseen", "measure", "value"])
        for label, measures in table.values.items():
            unseen = "" if label.unseen is None else label.unseen
            writer.writerows(
                [label.condition, label.seed, unseen, name, measures[name]] for name in sorted(measures)
            )


def _write_figures(figures: Mapping[str, object], folder: Path) -> None:
    """Each figure as SVG and PNG, without the date and the random ids that would make every copy differ."""
    import matplotlib

    folder.mkdir(exist_ok=True)
    for name, drawn in figures.items():
        figure = cast("Figure", drawn)
        with matplotlib.rc_context({"svg.hashsalt": name}):
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(folder / f"{name}.svg", metadata=nothing)
            figure.savefig(folder / f"{name}.png", dpi=_PNG_DPI, metadata={"Software": None})


def _introduction(experiment: Experiment, title: str) -> str:
    """The first paragraph of the experiment's docstring that is not its title."""
    paragraphs = inspect.cleandoc(getattr(experiment, "__doc__", None) or "").split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return next((text for text in texts if text.rstrip(".") != title.rstrip(".")), "")


def _left_out(table: Table) -> list[str]:
    """Names of the classes that some student never saw."""
    classes = sorted({label.unseen for label in table.values if label.unseen is not None})
    return [table.classes[index] if index < len(table.classes) else str(index) for index in classes]
