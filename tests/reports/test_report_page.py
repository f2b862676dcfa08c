"""The report: a summary of valid JSON, the same bytes for the same table, and nothing averaged in silently."""

import base64
import csv
import html
import json
import math
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from distill.config import ReportConfig
from distill.metrics.measures import BY_NAME, MEASURES, Measure, Topic
from distill.probes import probe_measures
from distill.reports.answer import answer_of
from distill.reports.columns import read_columns
from distill.reports.experiment import Claim, Label, Published, Table
from distill.reports.report_page import log_figures, write_report
from distill.reports.tables import (
    ABSENT,
    caution,
    decided_after_holm,
    evidence,
    format_summary,
    main_tables,
    paper_table,
    with_evidence,
)

CONFIG = ReportConfig(experiment="tiny", source="0" * 64, scale="smoke", data="digits", analyses=())
CLAIMS = (
    Claim("ece", "smoothing raises ECE", "ece", "teacher ε=0.1", "teacher ε=0", "higher"),
    Claim("unseen", "it hides the <unseen> class", "unseen_recall", "student of ε=0.1", "student of ε=0", "lower"),
)


def draw(table: Table):
    from matplotlib.figure import Figure

    pair = {}
    for name in ("first", "second"):
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.plot([0, 1], [len(table.values), 1])
        figure.set_label(f"The {name} one.")
        pair[name] = figure
    return pair


PAPER = [
    Published("Hinton 2015, 3s right", "98.6 %"),
    Published("Müller 2019, Table 2", 0.868, 0.002, "teacher ε=0", "accuracy"),
    Published("Müller 2019, temperature", 1.9, None, "teacher ε=0", "scaled_temperature"),
    Published("Müller 2019, Figure 5", None, None, "teacher ε=0.1", "accuracy"),
]
EXPERIMENT = SimpleNamespace(
    __doc__="Tiny\n\nWhat `it` is about.",
    REPRODUCES="Table 2",
    DATA={"paper": "cifar10"},
    CLAIMS=CLAIMS,
    PAPER=PAPER,
    draw=draw,
)


def measured(seeds: int = 3) -> Table:
    table = Table(classes=("cat", "dog", "ship"))
    for seed in range(seeds):
        for shift, condition in enumerate(("teacher ε=0", "teacher ε=0.1")):
            table.values[Label(condition, seed)] = {
                "accuracy": 0.9 - 0.01 * seed,
                "ece": 0.02 + 0.05 * shift + 0.001 * seed * (1 + shift),
            }
        for shift, condition in enumerate(("student of ε=0", "student of ε=0.1")):
            table.values[Label(condition, seed)] = {"accuracy": 0.8, "kl": 0.1}
            for unseen in (0, 2):
                table.values[Label(condition, seed, unseen)] = {
                    "accuracy": 0.6,
                    "unseen_recall": 0.7 - 0.4 * shift + 0.1 * unseen + 0.01 * seed * (1 + shift),
                }
    return table


def report(out, table, experiment=EXPERIMENT, provenance=None):
    out.mkdir()
    return write_report(CONFIG, experiment, "Tiny", table, provenance or {"commit": "abc"}, out)


def row(summary, measure, condition):
    (found,) = (row for row in summary["rows"] if (row["measure"], row["condition"]) == (measure, condition))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "report"
    return out, report(out, measured())


def test_summary_schema(written):
    out, summary = written
    assert json.loads((out / "summary.json").read_text()) == summary
    named = {"experiment", "title", "introduction", "reproduces", "scale", "data", "data_of_paper"}
    assert set(summary) == named | {"rows", "columns", "claims", "published", "diverged", "figures", "provenance"}
    assert [summary[name] for name in ("reproduces", "data_of_paper")] == ["Table 2", "cifar10"]
    assert [figure["caption"] for figure in summary["figures"]] == ["The first one.", "The second one."]
    assert [summary[name] for name in ("experiment", "scale", "data")] == ["tiny", "smoke", "digits"]
    assert all(set(row) == {"measure", "condition", "mean", "low", "high", "seeds"} for row in summary["rows"])
    required = {"id", "statement", "verdict", "effect", "low", "high", "p"}
    assert [set(claim) - {"measure", "seeds"} for claim in summary["claims"]] == [required, required]
    assert [claim["verdict"] for claim in summary["claims"]] == ["reproduced", "reproduced"]


def test_every_form_of_a_report_begins_with_the_answer(written):
    out, summary = written
    answer = answer_of(summary)
    page, text = ((out / name).read_text() for name in ("index.html", "report.md"))
    assert html.unescape(page.partition("</h1>")[2]).strip().startswith(f"<p><strong>{answer}</strong></p>")
    assert html.unescape(text.splitlines()[2]) == f"**{answer}**"
    assert format_summary(summary).startswith(f"{answer}\n\nreproduced")


def test_means_take_their_own_runs(written):
    _, summary = written
    # Accuracy comes from the runs on all classes only, recall from the others, over left-out classes first.
    assert row(summary, "accuracy", "student of ε=0")["mean"] == pytest.approx(0.8)
    recall = row(summary, "unseen_recall", "student of ε=0")
    assert (recall["mean"], recall["seeds"]) == (pytest.approx(0.81), 3)
    accuracy = row(summary, "accuracy", "teacher ε=0")
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert (accuracy["low"], accuracy["high"]) == (pytest.approx(0.89 - half), pytest.approx(0.89 + half))


def test_kinds_of_measures_say_which_runs_they_come_from():
    table = measured(seeds=1)
    for label, measures in table.values.items():
        if label.unseen is not None:
            measures |= {"unseen_number": 1.0, "cost": 2.0}
    assert table.by_seed("student of ε=0", "cost") == {}, "whole runs do not have it"
    assert table.by_seed("student of ε=0", "unseen_number") == {}, "a name says nothing"
    table.measures = (*MEASURES, Measure("cost", of="unseen class"))
    assert table.by_seed("student of ε=0", "cost") == {0: 2.0}
    whole = Table(values={Label("alone", 0): {"unseen_recall": 0.5}})
    assert whole.by_seed("alone", "unseen_recall") == {0: 0.5}, "a condition whose every run left it out"


def test_an_experiment_may_define_what_is_required_only(tmp_path):
    required = SimpleNamespace(DATA={"paper": "cifar10"}, CLAIMS=CLAIMS, draw=draw)
    summary = report(tmp_path / "r", measured(), required)
    assert [summary[name] for name in ("reproduces", "data_of_paper", "published")] == ["", None, []]
    assert caution(summary) == ""


def test_an_experiment_names_the_data_of_its_paper(tmp_path):
    experiment = SimpleNamespace(**vars(EXPERIMENT), DATA_OF_PAPER="digits")
    summary = report(tmp_path / "r", measured(), experiment)
    assert summary["data_of_paper"] == "digits"
    assert "not with the paper's schedules" in caution(summary)


def test_same_table_same_bytes(written, tmp_path):
    first, _ = written
    report(tmp_path / "again", measured())
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert {str(name) for name in names} == {
        "index.html",
        "report.md",
        "summary.json",
        "table.csv",
        *(f"figures/{name}.{kind}" for name in ("first", "second") for kind in ("svg", "png")),
    }
    for name in names:
        assert (first / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_table_is_tidy(written):
    out, _ = written
    with (out / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert set(lines[0]) == {"condition", "seed", "unseen", "measure", "value"}
    assert len(lines) == sum(map(len, measured().values.values()))
    assert {line["unseen"] for line in lines} == {"", "0", "2"}


class Page(HTMLParser):
    """Ids and open elements of a page."""

    def __init__(self):
        super().__init__()
        self.ids, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_self_contained(written):
    out, _ = written
    text = (out / "index.html").read_text()
    assert not re.search(r"https?://|<(link|script|iframe|svg)\b|@import|url\(", text)
    page = Page()
    page.feed(text)
    assert page.open == []
    prefix = "data:image/svg+xml;base64,"
    images = re.findall(r'<img alt=".*" src="(.*)">', text)
    drawn = [base64.b64decode(image.removeprefix(prefix)) for image in images]
    assert drawn == [(out / "figures" / f"{name}.svg").read_bytes() for name in ("first", "second")]


def test_pages_say_the_same(written):
    out, _ = written
    for name in ("index.html", "report.md"):
        text = html.unescape((out / name).read_text()).replace("\u00a0", " ")
        for part in (
            "Reproduces Table 2",
            "which is not the paper's data",
            "reproduced",
            "it hides the <unseen> class",
            "The second one.",
            "89.00±2.48",
            "Classes left out, one at a time: cat, ship",
            "98.6 %",
            '"commit"',
        ):
            assert part in text, (name, part)
    assert "What <code>it</code> is about." in (out / "index.html").read_text()
    assert "What `it` is about." in (out / "report.md").read_text()


def test_the_papers_numbers_stand_beside_ours(written):
    out, summary = written
    assert [(entry["value"], entry["half_width"], entry["seeds"]) for entry in summary["published"]] == [
        ("98.6 %", None, 0),
        (0.868, 0.002, 3),
        (1.9, None, 0),
        (None, None, 3),
    ]
    ours = row(summary, "accuracy", "teacher ε=0")
    assert {name: summary["published"][1][name] for name in ("mean", "low", "high")}.items() <= ours.items()
    shown = paper_table(summary)
    assert shown is not None
    assert shown.rows == [
        ["Hinton 2015, 3s right", "98.6 %", ABSENT, ABSENT, ABSENT],
        ["Müller 2019, Table 2", "86.8±0.2 %", "89.00±2.48 %", "3", "accuracy of teacher ε=0"],
        ["Müller 2019, temperature", "1.9", ABSENT, ABSENT, "scaled temperature of teacher ε=0"],
        ["Müller 2019, Figure 5", "only drawn", "89.00±2.48 %", "3", "accuracy of teacher ε=0.1"],
    ]
    pages = [html.unescape((out / name).read_text()) for name in ("index.html", "report.md")]
    for line in shown.rows:
        for page in pages:
            assert all(cell in page for cell in line)
    told = format_summary(summary, tables=True)
    assert "86.8±0.2 %" in told
    assert "98.6 %" not in told, "a terminal has no room for what nothing here corresponds to"
    assert paper_table({"published": []}) is None


def test_a_measure_that_no_run_has_is_no_column(tmp_path):
    table = measured()
    text = format_summary(report(tmp_path / "plain", table), tables=True)
    assert "Temperature scaling" not in text
    table.measures = (*MEASURES, *probe_measures("temperatures"), *probe_measures("information"))
    for label, measures in table.values.items():
        if label.condition == "teacher ε=0":
            measures |= {"scaled_ece": 0.021, "scaled_temperature": 1.9, "information_final": 0.7}
    found = {grid.caption: grid for grid in main_tables(report(tmp_path / "scaled", table))}
    assert {"Teachers and students", "Temperature scaling", "Mutual information"} <= found.keys()
    assert "Penultimate activations" not in found
    scaling = found["Temperature scaling"]
    assert scaling.header == ["condition", "seeds", "ECE %", "temperature", "scaled ECE %"]
    assert scaling.rows == [["teacher ε=0", "3", "2.10±0.25", "1.90", "2.10"]], "others have only an ECE"
    assert found["Mutual information"].header == ["condition", "seeds", "end"]
    assert [line[0] for line in found["Mutual information"].rows] == ["teacher ε=0"]


def test_figures_reach_tensorboard(written, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, _ = written
    again = shutil.copytree(out, tmp_path / "report")
    log_figures(again)
    events = EventAccumulator(str(again / "tb")).Reload()
    assert events.Tags()["images"] == ["tiny/first", "tiny/second"]
    (image,) = events.Images("tiny/first")
    assert (image.width, image.height) == (320, 320)
    (text,) = events.Tensors("tiny/second/text_summary")
    assert text.tensor_proto.string_val == [b"The second one."]


def test_numbers_that_are_not_finite_are_null(tmp_path):
    table = measured()
    table.values[Label("teacher ε=0", 0)]["optimal_gap"] = math.inf
    summary = report(
        tmp_path / "r", table, provenance={"seconds": math.nan, "deep": [math.inf, {"path": tmp_path}]}
    )
    assert row(summary, "optimal_gap", "teacher ε=0")["mean"] is None
    assert summary["provenance"] == {"seconds": None, "deep": [None, {"path": str(tmp_path)}]}
    text = (tmp_path / "r" / "summary.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_one_seed_has_no_interval_and_no_verdict(tmp_path):
    summary = report(tmp_path / "r", measured(seeds=1))
    found = row(summary, "accuracy", "teacher ε=0")
    assert (found["mean"], found["low"], found["high"], found["seeds"]) == (0.9, None, None, 1)
    assert [(claim["verdict"], claim["p"]) for claim in summary["claims"]] == [("undecided", None)] * 2
    text = format_summary(summary)
    assert "effect +5 points, 1 seed\n" in text
    assert "nan" not in text.lower()
    assert "None" not in (tmp_path / "r" / "index.html").read_text()


@pytest.mark.parametrize(
    ("effect", "told"), [(-2.2e-17, "+0 points"), (0.0, "+0 points"), (-0.0123456, "−1.23 points")]
)
def test_a_rounding_error_is_no_effect(effect, told):
    claim = {"measure": "accuracy", "effect": effect, "low": None, "high": None, "p": None, "seeds": 3}
    assert evidence(claim, BY_NAME) == f"effect {told}, 3 seeds"


def test_diverged_runs_are_listed_and_not_averaged(tmp_path):
    table = measured()
    whole, part = Label("teacher ε=0", 2), Label("student of ε=0", 1, 2)
    for label, reason in ((whole, "loss is not finite"), (part, "accuracy at chance")):
        del table.values[label]
        table.diverged[label] = reason
    summary = report(tmp_path / "r", table)
    assert summary["diverged"] == [
        {"condition": "teacher ε=0", "seed": 2, "unseen": None, "reason": "loss is not finite"},
        {"condition": "student of ε=0", "seed": 1, "unseen": 2, "reason": "accuracy at chance"},
    ]
    assert row(summary, "accuracy", "teacher ε=0")["seeds"] == 2
    assert row(summary, "accuracy", "teacher ε=0")["mean"] == pytest.approx(0.895)
    assert row(summary, "unseen_recall", "student of ε=0")["seeds"] == 2
    assert [claim["seeds"] for claim in summary["claims"]] == [2, 2]
    pages = [(tmp_path / "r" / name).read_text() for name in ("index.html", "report.md")]
    for text in (format_summary(summary), *pages):
        assert "loss is not finite" in text
        assert "accuracy at chance" in text


def test_all_runs_diverged(tmp_path):
    table = Table(diverged={Label("teacher ε=0", 0): "loss is not finite"})
    summary = report(tmp_path / "r", table)
    assert summary["rows"] == []
    assert {claim["verdict"] for claim in summary["claims"]} == {"undecided"}
    assert "nothing to compare, 0 seeds" in format_summary(summary)


def test_terminal_output_is_aligned(written):
    _, summary = written
    lines = format_summary(summary, tables=True).splitlines()
    assert max(map(len, lines)) <= 150
    assert not any("accuracy %" in line for line in format_summary(summary).splitlines()), "tables only when asked"
    header = next(line for line in lines if "accuracy %" in line)
    end = header.index("accuracy %") + len("accuracy %")
    assert [line[:end].rsplit(" ", 1)[-1] for line in lines[4:6]] == ["89.00±2.48", "89.00±2.48"]
    assert any(re.match(r"reproduced +smoothing raises ECE +effect \+5\.1 points \[", line) for line in lines)


@pytest.mark.parametrize("sizes", [(20.0, 20.0), (8.0, 20.0)])
def test_caches_are_compared_where_they_differ(tmp_path, sizes):
    table = measured()
    for label, measures in table.values.items():
        if "student" in label.condition and label.unseen is None:
            smoothed = "ε=0.1" in label.condition
            measures |= {"cache_bytes_per_view": sizes[smoothed], "cache_tv_T4": 0.125}
    text = format_summary(report(tmp_path / "r", table), tables=True)
    assert ("Caches and what came of them" in text) == (len(set(sizes)) > 1)
    assert ("bytes/view" in text) == (len(set(sizes)) > 1)
    if len(set(sizes)) > 1:
        assert re.search(r"student of ε=0 +3 +80\.00 +0\.100 +8 +12\.500", text)


def test_dark_knowledge_and_fidelity_have_tables_where_they_are_measured(tmp_path):
    table = measured()
    before = [grid.caption for grid in main_tables(report(tmp_path / "before", table))]
    assert {"Dark knowledge", "Fidelity to the teacher"}.isdisjoint(before), "nor do reports made before"
    for label, values in table.values.items():
        values["bits_beyond_top1"] = 0.25
        values["held_out_accuracy"] = 0.9
        if label.condition.startswith("student"):
            values |= {
                "agreement": 0.9,
                "agreement_independent": 0.8,
                "kl_independent": 0.3,
                "deviation_ratio": 0.5,
            }
    found = {grid.caption: grid for grid in main_tables(report(tmp_path / "after", table))}
    assert [caption for caption in found if caption not in before] == ["Dark knowledge", "Fidelity to the teacher"]
    knowledge, fidelity = (found[caption] for caption in ("Dark knowledge", "Fidelity to the teacher"))
    assert knowledge.header == ["condition", "seeds", "bits beyond top-1"]
    assert len(knowledge.rows) == 4
    assert fidelity.header[2:] == ["agree %", "KL", "agree, other seed %", "KL, other seed", "deviation ratio"]
    assert fidelity.rows[0] == ["student of ε=0", "3", "90.0", "0.100", "80.0", "0.300", "0.50"]
    table.measures = (*MEASURES, *probe_measures("knowledge"))
    for values in table.values.values():
        values["class_separation_train"] = 0.7
    probed = main_tables(report(tmp_path / "probed", table))[-1]
    assert probed.header[2:] == ["R², train"]


def gap_of_two() -> str:
    """Two classes <&>.

    Their gap is `x`,
    over two lines.

        z_1 - z_2 = 3

    """
    logits = [4, 1]
    return f"gap < {logits[0] - logits[1] + 1}\n```"


def untold() -> str:
    return ""


def test_cells_are_text_code_and_what_it_says(tmp_path):
    with_cells = SimpleNamespace(**vars(EXPERIMENT), CELLS=[gap_of_two])
    summary = report(tmp_path / "r", measured(), with_cells)
    (cell,) = summary["cells"]
    assert cell["title"] == "Two classes <&>"
    assert cell["text"] == "Their gap is `x`,\nover two lines.\n\n    z_1 - z_2 = 3"
    lines = cell["code"].splitlines()
    assert lines[:2] == ["def gap_of_two() -> str:", "    logits = [4, 1]"]
    assert (lines[2:], cell["output"]) == (
        ['    return f"gap < {logits[0] - logits[1] + 1}\\n```"'],
        "gap < 4\n```",
    )
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["cells"] == summary["cells"]
    page = (tmp_path / "r" / "index.html").read_text()
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    assert "<p>Their gap is <code>x</code>, over two lines.</p>" in page
    assert '<p class="formula">z_1 - z_2 = 3</p>' in page
    assert "gap &lt; 4" in page
    assert "Two classes &lt;&amp;&gt;" in page
    text = (tmp_path / "r" / "report.md").read_text()
    assert f"````python\n{cell['code']}\n````\n\n````text\ngap < 4\n```\n````\n" in text
    assert "\n    z_1 - z_2 = 3\n" in text


def test_a_cell_is_run_anew_for_every_report(tmp_path):
    count = iter("12")

    def counted() -> str:
        """Once more."""
        return next(count)

    experiment = SimpleNamespace(**vars(EXPERIMENT), CELLS=(counted,))
    outputs = [report(tmp_path / name, measured(), experiment)["cells"][0]["output"] for name in "ab"]
    assert outputs == ["1", "2"]
    assert (
        report(tmp_path / "c", measured(), SimpleNamespace(**vars(EXPERIMENT), CELLS=()))
        .keys()
        .isdisjoint(["cells"])
    )


def test_a_cell_says_what_it_shows(tmp_path):
    with pytest.raises(ValueError, match="untold"):
        report(tmp_path / "r", measured(), SimpleNamespace(**vars(EXPERIMENT), CELLS=[untold]))


def test_an_experiment_without_cells_has_the_page_it_had(written):
    out, summary = written
    assert "cells" not in summary
    page = (out / "index.html").read_text()
    assert "Worked through" not in page + (out / "report.md").read_text()
    assert ".step" not in page
    assert "\n}\n</style>" in page, "no line is left of the styles of cells"


def test_an_experiment_shows_its_own_measures_and_a_finished_report_needs_no_list(tmp_path):
    table = measured()
    own = Measure("cost", "cost", "points", 1, Topic("What it costs", ("accuracy",)))
    table.measures = (*MEASURES, own)
    for label, measures in table.values.items():
        if label.condition.startswith("student"):
            measures["cost"] = 0.25
    report(tmp_path / "r", table)
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    found = {grid.caption: grid for grid in main_tables(summary)}["What it costs"]
    assert found.header == ["condition", "seeds", "accuracy %", "cost, points"]
    assert found.rows[0] == ["student of ε=0", "3", "80.00", "25.0"]
    shown = {column["name"] for column in summary["columns"]}
    assert shown == {row["measure"] for row in summary["rows"]}
    claim = {"measure": "cost", "effect": -0.25, "low": None, "high": None, "p": None, "seeds": 3}
    assert evidence(claim, read_columns(summary)) == "effect −25 points, 3 seeds"


@pytest.mark.parametrize("decimals", [-1, 10**9])
def test_a_summary_cannot_ask_for_any_number_of_digits(written, decimals):
    _, summary = written
    columns = [column | {"decimals": decimals} for column in summary["columns"]]
    with pytest.raises(ValueError, match="decimals = "):
        format_summary(summary | {"columns": columns}, tables=True)


def test_holms_correction_stands_beside_the_verdict():
    claim = {"measure": "cost", "effect": 0.1, "low": 0.0, "high": 0.2, "seeds": 3, "statement": "s"}
    claims = [claim | {"verdict": "reproduced", "p": 0.03}, claim | {"verdict": "undecided", "p": 0.2}]
    claims += [claim | {"verdict": "contradicted", "p": 1e-5}, claim | {"verdict": "undecided", "p": None}]
    summary = {"claims": claims, "columns": []}
    told = [each["evidence"] for each in with_evidence(summary)]
    assert "p = 0.03, Holm = 0.06: undecided, 3 seeds" in told[0]
    assert "Holm" not in told[1] + told[3]
    assert "p < 0.001, Holm < 0.001, 3 seeds" in told[2]
    assert decided_after_holm(summary) == 1


def test_a_replication_has_a_column_of_its_own_where_there_is_one(tmp_path):
    paper = [
        Published("Müller 2019, Table 2", 0.868, 0.002, "teacher ε=0", "accuracy", 0.85),
        Published("Müller 2019, Figure 5", None, None, "teacher ε=0.1", "accuracy", 0.86),
        Published("Müller 2019, Table 3", 0.1, None, "teacher ε=0.1", "accuracy"),
    ]
    experiment = SimpleNamespace(**{**vars(EXPERIMENT), "PAPER": paper, "REPLICATION": "Theirs: one seed."})
    summary = report(tmp_path / "r", measured(), experiment)
    for shown in (paper_table(summary), paper_table(summary, only_numbers=True)):
        assert shown is not None
        assert shown.header[:4] == ["source", "paper", "replication", "ours"]
        assert [row[1:3] for row in shown.rows] == [
            ["86.8±0.2 %", "85 %"],
            ["only drawn", "86 %"],
            ["10 %", ABSENT],
        ]
    assert caution(summary).startswith("Theirs: one seed. Measured on digits")
    assert "Theirs: one seed." in (tmp_path / "r" / "report.md").read_text()
