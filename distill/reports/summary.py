"""Make `summary.json`, which holds what a report says: means, intervals and verdicts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from distill.config import ReportConfig
from distill.config.data_sets import short_name
from distill.metrics.verdict import interval, judge
from distill.reports.answer import in_words
from distill.reports.columns import as_columns
from distill.reports.experiment import Claim, Experiment, Published, Table
from distill.reports.notebook import run_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def summarise(
    config: ReportConfig,
    experiment: Experiment,
    title: str,
    table: Table,
    provenance: Mapping[str, Any],
    figures: Mapping[str, object],
) -> dict[str, Any]:
    """Return what a report says as valid JSON, with null for numbers that are not finite.

    The summary holds means with intervals, verdicts, diverged runs, the paper's numbers beside ours, which figures
    there are, how measures are shown, and the output of `CELLS` if the experiment has them.
    """
    rows, claims = list(_rows(table)), list(experiment.CLAIMS)
    reproduces, paper = getattr(experiment, "REPRODUCES", ""), getattr(experiment, "PAPER", ())
    replication = getattr(experiment, "REPLICATION", "")
    named = {row["measure"] for row in rows} | {each.measure for each in (*claims, *paper) if each.measure}
    judged = [_judged(claim, table) for claim in claims]
    words = in_words(getattr(experiment, "ANSWER", ()), judged)
    cells = run_cells(getattr(experiment, "CELLS", ()))
    return _as_json(
        {
            "experiment": config.experiment,
            "title": title,
            "introduction": _introduction(experiment, title),
            "reproduces": reproduces,
            "scale": config.scale,
            "data": short_name(config.data),
            # A question of our own has no data set in the paper.
            "data_of_paper": getattr(experiment, "DATA_OF_PAPER", experiment.DATA["paper"]) if reproduces else None,
            "rows": rows,
            "columns": as_columns(table.measures, named),
            "claims": judged,
            "published": beside_ours(paper, rows),
            **({"replication": replication} if replication else {}),
            "diverged": [{**label._asdict(), "reason": reason} for label, reason in table.diverged.items()],
            "figures": [{"name": name, "caption": _caption(name, figure)} for name, figure in figures.items()],
            **({"cells": cells} if cells else {}),
            **({"in_words": words} if words else {}),
            "provenance": provenance,
        }
    )


def beside_ours(paper: Iterable[Published], rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return published numbers, each with our mean, interval and seeds for the same quantity, if we have it."""
    ours = {(row["condition"], row["measure"]): row for row in rows}
    none = {"mean": None, "low": None, "high": None, "seeds": 0}
    return [
        vars(entry) | {name: ours.get((entry.condition, entry.measure), none)[name] for name in none}
        for entry in paper
    ]


def _caption(name: str, figure: object) -> str:
    return str(cast("Figure", figure).get_label()) or name.replace("_", " ")


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    """Yield one row per condition and measure that has a value."""
    measured = {measure for measures in table.values.values() for measure in measures}
    listed = dict.fromkeys(each.name for each in table.measures)
    order = [*(name for name in listed if name in measured), *sorted(measured.difference(listed))]
    for condition in table.conditions():
        for measure in order:
            values = table.by_seed(condition, measure)
            if values:
                # A mean that includes an infinite value is null, not the mean of the others.
                finite = all(map(math.isfinite, values.values()))
                mean, low, high = interval(values[seed] for seed in sorted(values)) if finite else [math.nan] * 3
                row = {"measure": measure, "condition": condition, "mean": mean, "low": low, "high": high}
                yield row | {"seeds": len(values)}


def _judged(claim: Claim, table: Table) -> dict[str, Any]:
    """Return a claim with its verdict."""
    condition = table.by_seed(claim.condition, claim.measure)
    versus = table.by_seed(claim.versus, claim.versus_measure or claim.measure)
    judgement = vars(judge(condition, versus, claim.direction))
    return {"id": claim.id, "statement": claim.statement, "measure": claim.measure} | judgement


def _as_json(value: Any) -> Any:
    """Replace numbers that JSON cannot express by null, and unknown objects by their text."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value)


def _introduction(experiment: Experiment, title: str) -> str:
    """Return the first paragraph of the experiment's docstring that is not its title."""
    paragraphs = inspect.cleandoc(getattr(experiment, "__doc__", None) or "").split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return next((text for text in texts if text.rstrip(".") != title.rstrip(".")), "")
