"""The page of everything: one section per experiment in the paper's order, from the reports that a store has."""

from __future__ import annotations

import html
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from distill.audit.verify import examine
from distill.config import ReportConfig
from distill.pipeline.experiments import reports_by_age
from distill.reports.experiment import Claim, Label, Published, Table
from distill.reports.overview import write_overview
from distill.reports.report_page import write_report
from distill.reports.tables import format_overview
from distill.store.garbage import find_garbage
from distill.store.key import key
from distill.store.record import RECORD, Record
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from tests.store.records import sealed

PLACES = {
    "penultimate": "Figure 1",
    "calibration": "Figure 2 and Table 3",
    "accuracy": "Table 2",
    "sequence": "Figures 3 and 4",
    "mnist": "Section 4, MNIST",
    "ours": "",
}


def draw(table: Table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, len(table.values)])
    figure.set_label("A <line>.")
    return {"line": figure}


def report(
    folder: Path, name: str, *, accuracy: float = 0.9, data: str = "digits", scale="quick", age: int = 0
) -> Path:
    """A published report of three seeds, so many seconds old."""
    table = Table()
    for seed in range(3):
        table.values[Label("teacher ε=0", seed)] = {"accuracy": accuracy + 0.001 * seed}
        table.values[Label("teacher ε=0.1", seed)] = {"accuracy": accuracy + 0.002 * seed + 0.01}
    better = Claim("better", f"{name} is better", "accuracy", "teacher ε=0.1", "teacher ε=0", "higher")
    experiment = SimpleNamespace(
        __doc__=f"All about {name}\n\nWith `code` & more.",
        REPRODUCES=PLACES[name],
        DATA={"paper": "cifar10"},
        CLAIMS=[better] * (6 if name == "ours" else 1),
        PAPER=[Published("Müller 2019, Table 2", 0.868, 0.002, "teacher ε=0", "accuracy")],
        draw=draw,
    )
    config = ReportConfig(experiment=name, source="0" * 64, scale=scale, data=data, analyses=())
    out = folder / f"{name}-{data}-{scale}-{accuracy}"
    out.mkdir(parents=True)
    write_report(config, experiment, f"All about {name}", table, {"minutes": 12.34}, out)  # pyright: ignore[reportArgumentType]
    record = Record(
        key=key(config),
        version=STAGES["report"].version,
        config=config.model_dump(mode="json"),
        inputs={},
        files=ArtifactStore(folder.parent).describe_files(out),
    )
    (out / RECORD).write_bytes(record.sealed())
    made = (out / RECORD).stat().st_mtime - age
    os.utime(out / RECORD, (made, made))
    return out


class Page(HTMLParser):
    """What a browser and a screen reader go by."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.headings, self.labels, self.open = [], [], [], [], []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if tag == "a" else []
        self.headings += [int(tag[1])] if re.fullmatch(r"h\d", tag) else []
        self.labels += [named.get("aria-label")] if named.get("role") in ("img", "region") else []
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "reports"
    for name in PLACES:
        report(folder, name)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    written = write_overview(folder, "quick", reports_by_age(ArtifactStore(folder.parent)), PLACES)
    assert written == folder / "index.html"
    return Page(written)


def test_sections_are_in_the_papers_order(page):
    places = [page.text.index(f'<h2 id="{name}">') for name in PLACES]
    assert places == sorted(places)


def test_every_section_has_all_that_a_reader_wants(page):
    sections = html.unescape(page.text).split('<section class="experiment"')[1:]
    assert len(sections) == len(PLACES)
    for section, (name, place) in zip(sections, PLACES.items(), strict=True):
        for part in (
            f"All about {name}",
            f"Reproduces {place}" if place else "A question of our own",
            "Data digits, scale quick, seeds 3, minutes 12",
            f"{name} is better",
            "effect +1.1 points",
            'src="data:image/svg+xml;base64,',
            "A <line>.",
            "86.8±0.2 %",
            "90.10±0.25 %",
            f'href="{name}-digits-quick-0.9/index.html"',
            f'href="{name}-digits-quick-0.9/summary.json"',
            "With <code>code</code> & more.",
        ):
            assert part in section, (name, part)
        assert ("not the paper's data" in section) == bool(place)
        assert ("All 6 claims with their evidence" in section) == (name == "ours")


def test_page_is_self_contained_and_its_links_lead_somewhere(page, folder):
    assert not re.search(r"https?://|<(link|script|iframe|svg)\b|@import|url\(", page.text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    inside = [link for link in page.links if link.startswith("#")]
    assert {link[1:] for link in inside} == {*PLACES, "all"}
    assert {link[1:] for link in inside} <= set(page.ids)
    assert all((folder / link).is_file() for link in page.links if link not in inside)


def test_page_can_be_heard(page):
    assert '<html lang="en">' in page.text
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert None not in page.labels
    assert len(set(page.labels)) > len(PLACES)


def test_the_latest_report_unless_another_is_wanted(tmp_path):
    store, folder = ArtifactStore(tmp_path), tmp_path / "reports"
    old = report(folder, "accuracy", accuracy=0.7, age=100)
    report(folder, "accuracy", accuracy=0.8, age=50)
    report(folder, "accuracy", accuracy=0.6, scale="paper")
    report(folder, "ours", accuracy=0.5)

    def shown(wanted=(), scale="quick", known=PLACES):
        written = write_overview(folder, scale, [*reports_by_age(store), *map(store.read, wanted)], known)
        return set(re.findall(r'href="(.*?)/index', written.read_text())) if written else set()

    assert shown() == {"accuracy-digits-quick-0.8", "ours-digits-quick-0.5"}
    assert shown([old]) == {"accuracy-digits-quick-0.7", "ours-digits-quick-0.5"}
    assert shown(scale="paper") == {"accuracy-digits-paper-0.6"}
    assert shown(known=["ours"]) == {"ours-digits-quick-0.5"}, "an experiment that is gone is not shown"
    assert shown(scale="smoke") == set()
    (folder / "accuracy-digits-quick-0.8" / "summary.json").write_text("{}")
    assert shown() == {"accuracy-digits-quick-0.7", "ours-digits-quick-0.5"}, "a damaged one is no report"
    older = folder / "ours-digits-quick-0.5" / RECORD
    older.write_bytes(sealed(json.loads(older.read_text()) | {"version": STAGES["report"].version - 1}))
    assert shown() == {"accuracy-digits-quick-0.7"}, "nor is one of another version"


def test_the_page_is_no_artifact(page, folder):
    store = ArtifactStore(folder.parent)
    assert (folder / "index.html").is_file()
    assert (folder / "index.html") not in [each.path for each in [*find_garbage(store), *examine(store)]]
    assert len(list(store.all())) == len(PLACES)


def test_a_line_per_experiment_on_the_terminal(folder):
    summaries = [json.loads((folder / f"{name}-digits-quick-0.9/summary.json").read_text()) for name in PLACES]
    lines = format_overview(summaries[::-1]).splitlines()
    assert [line.split()[0] for line in lines[4:]] == list(PLACES)
    assert re.fullmatch(r"calibration +Figure 2 and Table 3 +digits +3 +1 +0 +0 +12", lines[5])
    assert re.fullmatch(r"ours +– +digits +3 +6 +0 +0 +12", lines[9])
