"""The README's results: a section per experiment that has a recorded run, the first without a heading."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "results_table.py"
BEFORE = "dark_knowledge"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("results_table", SCRIPT)
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


def test_a_section_per_recorded_experiment(script, tmp_path):
    assert script.results(tmp_path) == ""
    record(tmp_path, "cache_precision", "digits", accuracy=0.9, cache_bytes_per_view=20, cache_tv_T4=0.001, ece=0.1)
    record(tmp_path, "patience", "digits", accuracy=0.9, nll=0.3, agreement=0.95, kl=0.1, ece=0.1)
    record(tmp_path, "patience", "mnist", accuracy=0.8)
    record(tmp_path, BEFORE, "digits", accuracy=0.7, unseen_recall=0.5)
    record(tmp_path, "another", "digits", accuracy=0.6)
    lines = script.results(tmp_path).splitlines()
    headings = [line for line in lines if line.startswith(("#", "**"))]
    views, form = "How many stored views", "What a cache may leave out"
    assert headings == [
        "**digits, all classes**",
        "**digits, a class never seen**",
        "**Verdicts**",
        f"### {views} (`experiments/patience.py`)",
        "**digits, stored views**",
        "**mnist, stored views**",
        "**Verdicts**",
        f"### {form} (`experiments/cache_precision.py`)",
        "**digits, stored form**",
        "**Verdicts**",
        "### `experiments/another.py`",
        "**digits, all classes**",
        "**Verdicts**",
    ]
    assert "| condition | seeds | accuracy % | NLL | agree % | KL |" in lines
    assert "| student | 1 | 90.00 | 0.300 | 95.0 | 0.100 |" in lines
    assert "| condition | seeds | bytes/view | TV T=4 % | accuracy % |" in lines
    assert "| student | 1 | 20 | 0.100 | 90.00 |" in lines
    both = "**undecided**: effect +0.5, 1 seed"
    assert f"| it is less | {both} | {both} |" in lines


def test_the_papers_numbers_stand_beside_ours(script, tmp_path):
    record(tmp_path, "table2_accuracy", "digits", accuracy=0.9, equivalent_smoothing=0.1)
    path = tmp_path / "table2_accuracy-digits.json"
    summary = json.loads(path.read_text())
    ours = {"condition": "student", "measure": "accuracy", "mean": 0.9, "low": 0.89, "high": 0.91, "seeds": 3}
    curve = {"source": "Figure 5", "value": None, "half_width": None, **ours}
    published = [{"source": "Table 2", "value": 0.868, "half_width": 0.002, **ours}, curve]
    path.write_text(json.dumps(summary | {"published": published, "data_of_paper": "cifar10", "scale": "quick"}))
    lines = script.results(tmp_path).splitlines()
    assert lines[0] == "### Table 2: accuracy (`experiments/table2_accuracy.py`)"
    at = lines.index("**digits, the paper and ours**")
    assert lines[at + 2 : at + 7] == [
        "| source | paper | ours | seeds | ours is |",
        "| --- | --- | --- | --- | --- |",
        "| Table 2 | 86.8±0.2 % | 90.00±1.00 % | 3 | accuracy of student |",
        "",
        "Measured on digits, which is not the paper's data: compare directions, not numbers.",
    ]


def test_only_the_experiments_that_are_named(script, tmp_path):
    record(tmp_path, "patience", "digits", accuracy=0.9)
    record(tmp_path, BEFORE, "digits", accuracy=0.7)
    assert script.results(tmp_path, ["patience"]).startswith("### How many stored views")
    assert script.results(tmp_path, ["patience"]) in script.results(tmp_path)
    assert script.results(tmp_path, ["nothing"]) == ""


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
