"""What documents show of recorded results: a page per experiment, and tables."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "documents.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("documents", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(folder: Path, experiment: str, data: str, **measures: float) -> None:
    rows = [
        {"measure": name, "condition": "student", "mean": mean, "low": None, "high": None, "seeds": 1}
        for name, mean in measures.items()
    ]
    claim = {"id": "less", "statement": "it is less", "verdict": "undecided", "measure": "kl", "seeds": 1}
    claims = [claim | {"effect": 0.5, "low": None, "high": None, "p": None}]
    summary = {"experiment": experiment, "data": data, "rows": rows, "claims": claims}
    (folder / f"{experiment}-{data.replace('/', '_')}.json").write_text(json.dumps(summary))


def page(script, folder: Path, name: str) -> list[str]:
    return script.page(name, script.recorded(folder)[name], folder).splitlines()


def test_every_document_shows_what_is_recorded(script):
    outdated = [
        str(path)
        for path, text in script.documents().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert outdated == [], "run: python scripts/documents.py"


def test_every_page_is_of_a_recorded_experiment(script):
    pages = {path.stem for path in script.FOLDER.glob("*.md")} - {"README"}
    assert pages == set(script.recorded())


def test_a_page_per_recorded_experiment(script, tmp_path):
    assert script.recorded(tmp_path) == {}
    record(tmp_path, "cache_precision", "digits", accuracy=0.9, cache_bytes_per_view=20, cache_tv_T4=0.001, ece=0.1)
    record(tmp_path, "patience", "digits", accuracy=0.9, nll=0.3, agreement=0.95, kl=0.1, ece=0.1)
    record(tmp_path, "patience", "mnist", accuracy=0.8)
    record(tmp_path, "another", "digits", accuracy=0.6)
    assert list(script.recorded(tmp_path)) == ["patience", "cache_precision", "another"]
    (tmp_path / "patience-mnist.png").touch()
    lines = page(script, tmp_path, "patience")
    assert [line for line in lines if line.startswith("#")] == [
        "# How many stored views",
        "## digits, stored views",
        "## mnist, stored views",
        "## Verdicts",
    ]
    assert "![patience-mnist](patience-mnist.png)" in lines
    assert "| condition | seeds | accuracy % | NLL | agree % | KL |" in lines
    assert "| student | 1 | 90.00 | 0.300 | 95.0 | 0.100 |" in lines
    both = "**undecided**: effect +0.5, 1 seed"
    assert f"| it is less | {both} | {both} |" in lines
    lines = page(script, tmp_path, "cache_precision")
    assert "| condition | seeds | bytes/view | TV T=4 % | accuracy % |" in lines
    assert "| student | 1 | 20 | 0.100 | 90.00 |" in lines
    assert page(script, tmp_path, "another")[0] == "# `another`"


def test_the_papers_numbers_stand_beside_ours(script, tmp_path):
    record(tmp_path, "table2_accuracy", "digits", accuracy=0.9, equivalent_smoothing=0.1)
    path = tmp_path / "table2_accuracy-digits.json"
    summary = json.loads(path.read_text())
    ours = {"condition": "student", "measure": "accuracy", "mean": 0.9, "low": 0.89, "high": 0.91, "seeds": 3}
    curve = {"source": "Figure 5", "value": None, "half_width": None, "replication": None, **ours}
    printed = {"source": "Table 2", "value": 0.868, "half_width": 0.002, "replication": None}
    published = [printed | ours, curve]
    path.write_text(json.dumps(summary | {"published": published, "data_of_paper": "cifar10", "scale": "quick"}))
    lines = page(script, tmp_path, "table2_accuracy")
    at = lines.index("## digits, the paper and ours")
    assert lines[at + 2 : at + 7] == [
        "| source | paper | ours | seeds | ours is |",
        "| --- | --- | --- | --- | --- |",
        "| Table 2 | 86.8±0.2 % | 90.00±1.00 % | 3 | accuracy of student |",
        "",
        "Measured on digits, which is not the paper's data: compare directions, not numbers.",
    ]
    assert lines[-1] == "*digits: scale `quick`.*"


def test_a_run_recorded_before_there_was_a_replication_is_shown_beside_it(script, tmp_path):
    record(tmp_path, "fig2_calibration", "fashion-mnist", ece=0.08)
    path = tmp_path / "fig2_calibration-fashion-mnist.json"
    summary = json.loads(path.read_text())
    summary["rows"][0]["condition"] = "teacher ε=0.05"
    published = [{"source": "Table 3", "value": 0.1, "half_width": None, "condition": None, "measure": None}]
    old = {"published": published, "data_of_paper": "cifar100", "scale": "quick"}
    path.write_text(json.dumps(summary | old))
    text = "\n".join(page(script, tmp_path, "fig2_calibration"))
    assert "## fashion-mnist, the paper, a replication and ours" in text
    assert "| ECE of the same, ε=0.05 | none | 4.2 % | 8.00 % | 1 | ECE of teacher ε=0.05 |" in text
    assert "Replication: Wagner et al. 2023" in text


def test_every_experiment_has_its_columns(script):
    folder = SCRIPT.parents[1] / "experiments"
    experiments = {path.stem for path in folder.glob("*.py") if "\ndef runs(" in path.read_text()}
    assert experiments == set(script.SECTIONS)


def test_claims_of_the_paper_are_in_its_order(script, tmp_path):
    for experiment, reproduces in (("b", "Figure 5"), ("c", "Figure 1"), ("a", "")):
        record(tmp_path, experiment, "digits", accuracy=0.5)
        path = tmp_path / f"{experiment}-digits.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"reproduces": reproduces}))
    record(tmp_path, "old", "digits", accuracy=0.5)
    rows = script.claims_of_paper(tmp_path).splitlines()[2:]
    assert rows == [
        f"| {reproduces} | it is less | **undecided** | effect +0.5, 1 seed |"
        for reproduces in ("Figure 1", "Figure 5")
    ]


def test_a_recorded_run_names_no_folder_and_of_many_rows_keeps_those_that_are_shown(script, tmp_path, monkeypatch):
    record(tmp_path, "patience", "imagefolder:/some/where/birds.tar.xz", accuracy=0.9, kl=0.1, gap=3)
    report = tmp_path / "report"
    report.mkdir()
    next(tmp_path.rglob("patience-*.json")).rename(report / "summary.json")
    path = script.record(report, tmp_path)
    assert path == tmp_path / "patience-birds.json"
    kept = json.loads(path.read_text())
    assert kept["data"] == "birds"
    assert [row["measure"] for row in kept["rows"]] == ["accuracy", "kl", "gap"]
    monkeypatch.setattr(script, "MOST_ROWS", 2)
    kept = json.loads(script.record(report, tmp_path).read_text())
    assert [row["measure"] for row in kept["rows"]] == ["accuracy", "kl"]
