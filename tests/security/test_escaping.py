"""Pages and tables with the names of somebody else: nothing runs, nothing is loaded, no figure breaks."""

from __future__ import annotations

import ast
import base64
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import distill
from distill.cli.main import main
from distill.config import ReportConfig
from distill.errors import printable
from distill.metrics.measures import Measure, Topic
from distill.reports.columns import as_columns
from distill.reports.experiment import Claim, Label, Published, Table
from distill.reports.overview import write_overview
from distill.reports.pages import _template, render
from distill.reports.report_page import write_report
from distill.reports.sweep_answers import write_page
from distill.reports.tables import Grid, aligned
from distill.store.key import key
from distill.store.record import RECORD, Record
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from distill.system.progress import tell
from distill.training.tracking import warn
from tests.store.records import sealed

pytestmark = pytest.mark.fault("characters that a terminal or a page obeys")

PACKAGE = Path(distill.__file__).parent
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script src=//x.example></script>",
    "'; javascript:alert(1) //",
    "](javascript:alert(1)) [x",
    r"$\frac{",
    "100 $ and 5 $",
    "-->]]><!--&amp;",
    "a\x1b[31mb\x00\u202ec",
    "x" * 5000,
)
NAME = " ".join(HOSTILE[:-1])
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "strong",
        "style",
        "body",
        "header",
        "main",
        "section",
        "footer",
        "h1",
        "h2",
        "h3",
        "p",
    ),
    *("ul", "li", "div", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code"),
    *("samp", "b", "a", "figure", "figcaption", "img"),
}
_ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "id", "aria-label", "aria-labelledby"),
    *("tabindex", "role", "scope", "alt"),
}


class Page(HTMLParser):
    """Refuses whatever runs or loads."""

    def __init__(self, text: str):
        super().__init__()
        self.policies: list[str | None] = []
        self.images = 0
        self.style = ""
        self.words = ""
        self._in = ""
        self.feed(text)
        self.close()
        assert self.policies == [_POLICY]
        assert text.index("Content-Security-Policy") < text.index("<style>")
        assert not re.search(r"url\(|@import|expression|</", self.style)

    def handle_starttag(self, tag, attrs):
        assert tag in _TAGS, tag
        named = dict(attrs)
        self._in = tag
        if named.get("http-equiv"):
            self.policies.append(named["content"])
        for name, value in named.items():
            if name == "src":
                assert tag == "img"
                ElementTree.fromstring(
                    base64.b64decode(value.removeprefix("data:image/svg+xml;base64,"), validate=True)
                )
                self.images += 1
            elif name == "href":
                assert tag == "a"
                assert re.fullmatch(r"#\w+|[\w%.=-]+/(index\.html|summary\.json)", value), value
            elif name == "style":
                assert value == "--verdict: var(--link)"
            else:
                assert name in _ATTRIBUTES, name

    def handle_data(self, data):
        if self._in == "style":
            self.style += data
        else:
            self.words += data

    def handle_endtag(self, tag):
        self._in = ""


def draw(table: Table):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 10), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(len(table.classes)), range(len(table.classes)), label=table.classes[0])
    axes.set_xticks(range(len(table.classes)), table.classes, rotation=90)
    axes.set_title(table.classes[5])
    axes.legend()
    figure.set_label(f"A caption, {NAME}")
    return {"line": figure}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of an experiment in which every name is hostile."""
    table = Table(classes=HOSTILE)
    for seed in range(2):
        for number, condition in enumerate((NAME, "other")):
            table.values[Label(condition, seed)] = {"accuracy": 0.9 + 0.01 * seed + 0.02 * number, NAME: 1.0}
            table.values[Label(condition, seed, unseen=seed)] = {"unseen_recall": 0.1}
    table.diverged[Label(NAME, 7)] = NAME
    experiment = SimpleNamespace(
        __doc__=f"{NAME}\n\nAn introduction `{NAME}`.",
        REPRODUCES=NAME,
        DATA={"paper": NAME},
        CLAIMS=[Claim("a", NAME, "accuracy", NAME, "other", "higher")],
        PAPER=[Published(NAME, NAME, None, NAME, "accuracy")],
        draw=draw,
    )
    folder = tmp_path_factory.mktemp("store") / "reports"
    config = ReportConfig(
        experiment="hostile", source="0" * 64, scale="quick", data=f"imagefolder:/{NAME}", analyses=()
    )
    out = folder / "hostile"
    out.mkdir(parents=True)
    write_report(config, experiment, NAME, table, {"minutes": 1, "host": NAME}, out)
    record = Record(
        key=key(config),
        version=STAGES["report"].version,
        config=config.model_dump(mode="json"),
        inputs={},
        files=ArtifactStore(folder.parent).describe_files(out),
    )
    (out / RECORD).write_bytes(record.sealed())
    return out


@pytest.mark.filterwarnings("ignore:Glyph")
def test_reports_run_nothing_and_load_nothing(report):
    page = Page((report / "index.html").read_text())
    assert page.images == 1
    assert all(name in page.words for name in HOSTILE[:2])
    text = (report / "report.md").read_text()
    before, fenced, after = text.partition("```json")
    assert fenced
    assert not re.search(r"<[A-Za-z/!?]|\]\(javascript", before)
    assert '"host"' in after


def test_the_page_of_all_reports_runs_nothing_and_loads_nothing(report):
    store = ArtifactStore(report.parents[1])
    written = write_overview(report.parent, "quick", store.all(), ["hostile"])
    assert written is not None
    assert Page(written.read_text()).images == 1


@pytest.mark.parametrize(
    "change", ["svg", "verdict", "nothing", "path", "figures", "title", "diverged", "reproduces", "statement"]
)
def test_a_report_that_somebody_changed_is_shown_without_harm_or_left_out(report, tmp_path, change):
    out = tmp_path / "reports" / report.name
    shutil.copytree(report, out)
    summary = json.loads((out / "summary.json").read_text())
    if change == "svg":
        (out / "figures" / "line.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>'
        )
    elif change == "verdict":
        summary["claims"][0]["verdict"] = '"><script>'
    elif change == "nothing":
        summary = {"scale": "quick", "experiment": "hostile"}
    elif change == "path":
        summary["figures"][0]["name"] = "../../../../etc/passwd"
    elif change == "figures":
        summary["figures"][0]["prefix"] = 1
    elif change == "statement":
        del summary["claims"][0]["statement"]
    elif change == "title":
        del summary["title"]
    else:
        summary[change] = 5
    (out / "summary.json").write_text(json.dumps(summary))
    store = ArtifactStore(tmp_path)
    record = json.loads((out / RECORD).read_text())
    (out / RECORD).unlink()
    record["files"] = {name: entry.model_dump() for name, entry in store.describe_files(out).items()}
    (out / RECORD).write_bytes(sealed(record))
    written = write_overview(out.parent, "quick", store.all(), ["hostile"])
    assert (written is None) == (change != "svg")
    if written:
        Page(written.read_text())


def test_the_page_of_a_sweep_runs_nothing_and_loads_nothing(tmp_path):
    rows = [
        {
            "smoothing": s,
            "measure": m,
            "split": split,
            "mean": 0.5 + s,
            "low": 0.4,
            "high": 0.6 + s,
            "values": [1, 2],
        }
        for s in (0.0, 0.1)
        for m in ("accuracy", "ece", "nll", "interclass_variance_relative")
        for split in ("held_out", "test")
    ]
    choice = {"smoothing": 0.1, "undecided": [], "reason": NAME, "value": 0.5}
    columns = as_columns([Measure("accuracy", NAME, topic=Topic(NAME))], ["accuracy"])
    found = {
        "data": NAME,
        "columns": {"held_out": columns, "test": columns},
        "smoothings": [0.0, 0.1],
        "seeds": [0, 1],
        "rows": rows,
        "choices": dict.fromkeys(("accuracy", "calibration", "teaching"), choice),
        "notes": [NAME],
        "diverged": [{"smoothing": 0.1, "seed": 1, "reason": NAME}],
    }
    write_page(found, f"mlp on imagefolder:/{NAME}", tmp_path)
    page = Page((tmp_path / "index.html").read_text())
    assert page.images == 1
    assert HOSTILE[0] in page.words


def test_cells_of_a_notebook_are_escaped():
    page = {
        "summary": dict.fromkeys(("title", "introduction", "reproduces", "data", "scale"), NAME),
        **dict.fromkeys(("claims", "drawings", "paper", "caution", "tables", "left_out", "diverged"), ()),
        "cells": [{"title": NAME, "parts": [(True, NAME), (False, NAME)], "code": NAME, "output": NAME}],
        "rows": Grid(NAME, [NAME], [[NAME, NAME]]),
        "provenance": NAME,
    }
    assert printable(page["cells"][0]["code"]) in Page(render("report.html.j2", page)).words


def test_pages_show_what_cannot_be_seen():
    text = "a\x1b[31mb\u202ec\x9b\u2066\nd"
    for template in ("report.html.j2", "report.md.j2"):
        made = _template(template).environment.from_string("{{ text }}|{{ text | prose }}").render(text=text)
        assert all(line.isprintable() for line in made.split("\n"))
        assert made.count("\\x1b[31m") == 2
        assert made.count("\n") == 2


def test_what_reaches_a_terminal_goes_through_a_function_that_escapes(capsys):
    """A call of `print` has a constant, or escapes, or is one of the few that do."""
    calls = {
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "integrations"  # loops to copy, which print their own numbers and a UserError
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "tqdm.write", "sys.stdout.write")
    }
    assert {call for call in calls if "printable" not in call} == {
        "cli/main.py: print(format_help())",
        "cli/main.py: print(f'distill {__version__}')",
        "cli/commands.py: print(format_flags(of.name, said, of.flags, any(map(_HELP.get, asked))))",
        "system/ranks.py: print(f'error: {error}', file=sys.__stderr__, flush=True)",  # a UserError, which escapes
    }
    warn("of this test", "a\x1b]0;title\x07b\u202e")
    tell("a\x9b2J")
    assert capsys.readouterr().err == "warning: a\\x1b]0;title\\x07b\\u202e\na\\x9b2J\n"
    with pytest.raises(SystemExit):
        main(["no\x1b[31m"])
    assert "\x1b" not in "".join(capsys.readouterr())


def test_tables_for_a_terminal_hold_nothing_that_it_obeys():
    text = aligned(Grid(NAME, [NAME, "b"], [[NAME, "1"], ["\x1b[2J\n\r", "2"]]))
    lines = text.split("\n")
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
