"""The page of everything: figures, claims and the paper's numbers beside ours, read from every report."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.artifact import RECORD, replace_file
from distill.experiment import Scale
from distill.stages.pages import Drawing, read_drawing, render
from distill.stages.report_tables import (
    Grid,
    Overview,
    caution,
    main_tables,
    overview_of,
    paper_table,
    place,
    with_evidence,
)

PAGE = "index.html"
_SCALES: dict[Scale, str] = {
    "smoke": "A smoke run takes seconds and only shows that everything runs. Its numbers mean nothing.",
    "quick": "Small networks or short schedules, so that all of it fits two CPU cores.",
    "short": "The paper's networks with short schedules, for one GPU.",
    "paper": "The paper's networks and schedules.",
}


@dataclass(frozen=True)
class Section:
    """What the page shows of one experiment."""

    name: str
    """What it reproduces; for a question of our own, the experiment's name."""
    summary: Mapping[str, Any]
    folder: str
    """Of its report, relative to the page."""
    overview: Overview
    claims: list[dict[str, Any]]
    drawings: list[Drawing]
    paper: Grid | None
    tables: list[Grid]
    caution: str


def write_overview(folder: Path, scale: Scale, wanted: Iterable[Path], known: Collection[str]) -> Path | None:
    """Write `index.html`, self-contained, from reports that exist: one of each experiment.

    Args:
        folder: of all reports; the page lies in it.
        scale: of the reports that are shown.
        wanted: folders of the reports that are shown whatever else there is of their experiments.
        known: names of the experiments that are shown; of those without a wanted report, the latest one.

    Returns:
        The page, or None where there is no report to show.
    """
    latest = sorted(folder.glob(f"*/{RECORD}"), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Section] = {}
    for path in [*(record.parent for record in latest), *wanted]:
        # What is damaged, or of another version, is not shown; it keeps nothing else from being shown.
        with suppress(OSError, ValueError):
            summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
            if summary["scale"] == scale and summary["experiment"] in known and "figures" in summary:
                found[summary["experiment"]] = _section(path, summary)
    if not found:
        return None
    sections = sorted(found.values(), key=lambda section: place(section.summary))
    cautions: dict[str, list[Section]] = {}
    for section in sections:
        if section.caution:
            cautions.setdefault(section.caution, []).append(section)
    page = {"scale": scale, "meaning": _SCALES[scale], "sections": sections, "cautions": cautions}
    replace_file(folder / PAGE, render("overview.html.j2", page).encode())
    return folder / PAGE


def _section(report: Path, summary: Mapping[str, Any]) -> Section:
    prefix = f"{summary['experiment']}-"
    return Section(
        name=summary["reproduces"] or summary["experiment"].replace("_", " "),
        summary=summary,
        folder=report.name,
        overview=overview_of(summary),
        claims=with_evidence(summary),
        drawings=[read_drawing(report, **figure, prefix=prefix) for figure in summary["figures"]],
        paper=paper_table(summary),
        tables=main_tables(summary),
        caution=caution(summary),
    )
