"""Write one page of all reports: figures, claims, and the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from distill.errors import UserError
from distill.reports.experiment import Scale
from distill.reports.pages import Drawing, figure_file, read_drawing, render
from distill.reports.tables import (
    Grid,
    Overview,
    caution,
    main_tables,
    overview_of,
    paper_table,
    place,
    with_evidence,
)
from distill.store.artifact import Artifact
from distill.store.stages import STAGES
from distill.system.files import replace_file
from distill.system.reading import read_json

PAGE = "index.html"
_SCALES: dict[Scale, str] = {
    "smoke": "A smoke run takes seconds and only shows that everything runs. Its numbers mean nothing.",
    "quick": "Small networks or short schedules, so that all of it fits two CPU cores.",
    "short": "The paper's networks with short schedules, for one GPU.",
    "paper": "The paper's networks and schedules.",
}


@dataclass(frozen=True)
class Section:
    """The part of the page that is about one experiment."""

    name: str
    """What the experiment reproduces; for a question of our own, the experiment's name."""
    summary: Mapping[str, Any]
    folder: str
    """Folder of the report, relative to the page."""
    overview: Overview
    claims: list[dict[str, Any]]
    drawings: list[Drawing]
    paper: Grid | None
    tables: list[Grid]
    caution: str


def write_overview(folder: Path, scale: Scale, reports: Iterable[Artifact], known: Collection[str]) -> Path | None:
    """Write a self-contained `index.html` from existing reports, one of each experiment.

    Args:
        folder: folder of all reports, in which the page will lie.
        scale: scale of the reports that are shown.
        reports: published reports; the last one of each experiment is shown. Reports that are damaged, or of
            another version or scale, are left out.
        known: names of the experiments that are shown.

    Returns:
        The page; None if there is no report to show.
    """
    found: dict[str, Section] = {}
    for report in reports:
        if report.record.version == STAGES["report"].version:
            # A forged summary may lack anything.
            with suppress(
                UserError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError
            ):
                summary = read_json(report.file("summary.json"))
                if summary["scale"] == scale and summary["experiment"] in known:
                    section = _section(report, summary)
                    _page(scale, [section])
                    found[summary["experiment"]] = section
    if not found:
        return None
    replace_file(folder / PAGE, _page(scale, found.values()).encode())
    return folder / PAGE


def _page(scale: Scale, found: Iterable[Section]) -> str:
    sections = sorted(found, key=lambda section: place(section.summary))
    cautions: dict[str, list[Section]] = {}
    for section in sections:
        if section.caution:
            cautions.setdefault(section.caution, []).append(section)
    page = {"scale": scale, "meaning": _SCALES[scale], "sections": sections, "cautions": cautions}
    return render("overview.html.j2", page)


def _section(report: Artifact, summary: Mapping[str, Any]) -> Section:
    return Section(
        name=summary["reproduces"] or summary["experiment"].replace("_", " "),
        summary=summary,
        folder=report.path.name,
        overview=overview_of(summary),
        claims=with_evidence(summary),
        drawings=[
            read_drawing(report.file(figure_file(figure["name"])), **figure) for figure in summary["figures"]
        ],
        paper=paper_table(summary),
        tables=main_tables(summary),
        caution=caution(summary),
    )
