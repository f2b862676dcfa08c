"""Write one page of all reports: figures, claims, and the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from distill.errors import UserError
from distill.reports.experiment import Scale
from distill.reports.pages import render
from distill.reports.report_page import results
from distill.reports.tables import overview_of, paper_order
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
# A forged summary may lack anything.
_DAMAGED = (UserError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError)


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
    sections: dict[str, dict[str, Any]] = {}
    for report in reports:
        if report.record.version == STAGES["report"].version:
            with suppress(*_DAMAGED):
                section = _section(report)
                summary = section["summary"]
                if summary["scale"] == scale and summary["experiment"] in known:
                    _page(scale, [section])
                    sections[summary["experiment"]] = section
    if not sections:
        return None
    replace_file(folder / PAGE, _page(scale, sections.values()).encode())
    return folder / PAGE


def _page(scale: Scale, sections: Iterable[dict[str, Any]]) -> str:
    ordered = sorted(sections, key=lambda section: paper_order(section["summary"]))
    cautions: dict[str, list[dict[str, Any]]] = {}
    for section in ordered:
        if section["caution"]:
            cautions.setdefault(section["caution"], []).append(section)
    page = {"scale": scale, "meaning": _SCALES[scale], "sections": ordered, "cautions": cautions}
    return render("overview.html.j2", page)


def _section(report: Artifact) -> dict[str, Any]:
    """Return the part of the page that is about one report: its results, folder, name and overview."""
    summary = read_json(report.file("summary.json"))
    return results(summary, report.file) | {
        "name": summary["reproduces"] or summary["experiment"].replace("_", " "),
        "folder": report.path.name,
        "overview": overview_of(summary),
    }
