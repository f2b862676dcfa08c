"""The report stage: what an experiment measured becomes figures, tables and verdicts that people can read."""

from __future__ import annotations

import csv
import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from distill.config import ReportConfig
from distill.experiment import Claim, Experiment, Table
from distill.metrics.verdict import interval, judge
from distill.stages.report_tables import MEASURES, all_rows, diverged_table, evidence, main_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PNG_DPI = 160


@dataclass(frozen=True)
class Drawing:
    """One figure in the forms that the pages need."""

    name: str
    caption: str
    svg: str
    """For inlining: no prolog, and ids that no other figure of the page has."""


def write_report(
    config: ReportConfig,
    experiment: Experiment,
    title: str,
    table: Table,
    provenance: Mapping[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Write index.html (self-contained), report.md, summary.json, table.csv and figures/ into a folder.

    The same table gives the same bytes. A figure's label (`Figure.set_label`) is its caption.

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
    summary = summarise(config, experiment, table, provenance)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (out / "summary.json").write_text(text, encoding="utf-8")
    _write_table(table, out / "table.csv")
    drawings = _write_figures(experiment.draw(table), out / "figures")
    page = {
        "title": title,
        "introduction": _introduction(experiment, title),
        "summary": summary,
        "claims": [{**claim, "evidence": evidence(claim)} for claim in summary["claims"]],
        "drawings": drawings,
        "tables": main_tables(summary),
        "left_out": _left_out(table),
        "diverged": diverged_table(summary),
        "rows": all_rows(summary),
        "published": {found.source: _readable(found.value) for found in experiment.PAPER},
        "provenance": json.dumps(summary["provenance"], indent=2, ensure_ascii=False),
    }
    (out / "index.html").write_text(_render("report.html.j2", page), encoding="utf-8")
    (out / "report.md").write_text(_render("report.md.j2", page), encoding="utf-8")
    return summary


def summarise(
    config: ReportConfig, experiment: Experiment, table: Table, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Means with intervals, verdicts and diverged runs, all of it valid JSON: null for what is not finite."""
    return _as_json(
        {
            "experiment": config.experiment,
            "scale": config.scale,
            "data": config.data,
            "rows": list(_rows(table)),
            "claims": [_judged(claim, table) for claim in experiment.CLAIMS],
            "diverged": [{**label._asdict(), "reason": reason} for label, reason in table.diverged.items()],
            "provenance": provenance,
        }
    )


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
    return table.by_seed(condition, measure, unseen=measure.startswith("unseen_"))


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


def _write_figures(figures: Mapping[str, object], folder: Path) -> list[Drawing]:
    """Each figure as SVG and PNG, without the date and the random ids that would make every copy differ."""
    import matplotlib

    folder.mkdir(exist_ok=True)
    drawings = []
    for name, drawn in figures.items():
        figure = cast("Figure", drawn)
        with matplotlib.rc_context({"svg.hashsalt": name}):
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(folder / f"{name}.svg", metadata=nothing)
            figure.savefig(folder / f"{name}.png", dpi=_PNG_DPI, metadata={"Software": None})
        svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
        drawings.append(Drawing(name, str(figure.get_label()) or name.replace("_", " "), _inline(svg, name)))
    return drawings


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element of a page: without prolog, with ids that no other figure of the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-")


def _introduction(experiment: Experiment, title: str) -> str:
    """The first paragraph of the experiment's docstring that is not its title."""
    paragraphs = inspect.cleandoc(getattr(experiment, "__doc__", None) or "").split("\n\n")
    texts = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return next((text for text in texts if text.rstrip(".") != title.rstrip(".")), "")


def _left_out(table: Table) -> list[str]:
    """Names of the classes that some student never saw."""
    classes = sorted({label.unseen for label in table.values if label.unseen is not None})
    return [table.classes[index] if index < len(table.classes) else str(index) for index in classes]


def _readable(value: object) -> str:
    """A published number, or several, as text."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_readable(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_readable, value))
    return str(value)


def _render(template: str, page: Mapping[str, Any]) -> str:
    """A template of this folder, filled in; only HTML needs escaping."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template(template).render(page)
