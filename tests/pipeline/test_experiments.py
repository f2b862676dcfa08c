"""Check that all experiments run as one graph, and that their reports are on one page."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from distill.config import TeacherConfig
from distill.errors import UserError
from distill.pipeline import graph
from distill.pipeline.executors.failures import StagesFailed
from distill.pipeline.experiments import plan_reports, reproduce
from distill.reports import experiment_files
from distill.reports.experiment import Label
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime


@pytest.fixture
def experiments(teacher, monkeypatch) -> dict[str, SimpleNamespace]:
    """Replace all experiments by two that share one network; a test can add more."""
    found: dict[str, SimpleNamespace] = {}
    monkeypatch.setattr(experiment_files, "load_experiment", found.__getitem__)
    monkeypatch.setattr(experiment_files, "experiment_names", lambda: sorted(found))
    monkeypatch.setattr(Runtime, "jobs_for", lambda *_: 1)  # other processes would not find them
    for name in ("first", "second"):
        found[name] = experiment(name, teacher)
    return found


def experiment(name: str, teacher: TeacherConfig, draw=lambda table: {}, takes: str = "digits") -> SimpleNamespace:
    def runs(scale, data):
        if data != takes:
            raise UserError("data", data, takes, "Drop --data.")
        return {Label("teacher", 0): teacher.replace(data=teacher.data.replace(name=data))}

    return SimpleNamespace(
        __doc__=f"About {name}.",
        DATA=dict.fromkeys(("smoke", "quick", "short", "paper"), takes),
        CLAIMS=[],
        runs=runs,
        draw=draw,
    )


def test_all_experiments_are_one_graph(experiments, store, runtime, monkeypatch) -> None:
    calls = []
    run = graph.run_missing
    monkeypatch.setattr("distill.pipeline.experiments.run_missing", lambda *a, **k: calls.append(a) or run(*a, **k))
    made = reproduce("all", "smoke", None, store, runtime)
    assert len(calls) == 1
    assert [report.config.experiment for report in made.reports] == ["first", "second"]
    assert len(list((store.root / "teachers").iterdir())) == 1
    assert (made.skipped, made.failed) == ({}, {})
    seconds = sum(found.record.provenance["seconds"] for found in store.all() if found.config.stage != "report")
    for report in made.reports:
        summary = json.loads(report.file("summary.json").read_text())
        assert summary["provenance"]["minutes"] == pytest.approx(seconds / 60, abs=0.006)
        assert any(name.startswith("tb/") for name in report.record.files)
        assert f'href="{report.path.name}/index.html"' in made.page.read_text()
    monkeypatch.setattr(
        "distill.pipeline.experiments.run_missing", lambda *_, **__: pytest.fail("nothing is to be done")
    )
    made.page.unlink()
    assert reproduce("all", "smoke", None, store, runtime).page.is_file()


def test_one_experiment_updates_the_page_of_all(experiments, store, runtime) -> None:
    assert "About second" not in reproduce("first", "smoke", None, store, runtime).page.read_text()
    page = reproduce("second", "smoke", None, store, runtime).page.read_text()
    assert "About first" in page
    assert "About second" in page


def test_an_experiment_that_fails_costs_no_other(experiments, teacher, store, runtime) -> None:
    experiments["a_broken_one"] = experiment("a_broken_one", teacher, draw=lambda table: 1 / 0)
    made = reproduce("all", "smoke", None, store, runtime)
    assert [report.config.experiment for report in made.reports] == ["first", "second"]
    (name,) = made.failed
    assert re.fullmatch("reports/a_broken_one-digits-smoke-[0-9a-f]{8}", name)
    assert isinstance(made.failed[name].error, ZeroDivisionError)
    assert "division by zero" in made.failed[name].log.read_text()
    assert "About second" in made.page.read_text()
    with pytest.raises(ZeroDivisionError):
        reproduce("a_broken_one", "smoke", None, store, runtime)
    for name in ("first", "second"):
        experiments[name].draw = experiments["a_broken_one"].draw
    with pytest.raises(StagesFailed, match=r"(?s)reports/a_broken_one.*reports/first.*reports/second"):
        reproduce("all", "smoke", None, ArtifactStore(store.root / "another"), runtime)


@pytest.mark.parametrize("file", ["summary.json", "record.json"])
def test_a_damaged_report_is_one_line_with_a_way_out_and_costs_no_other(experiments, store, runtime, file) -> None:
    made = reproduce("first", "smoke", None, store, runtime)
    (made.reports[0].path / file).write_text("{}")
    with pytest.raises(UserError, match=r"Delete (the|this) folder"):
        reproduce("first", "smoke", None, store, runtime)
    both = reproduce("all", "smoke", None, store, runtime)
    assert [report.config.experiment for report in both.reports] == ["second"]
    assert list(both.failed) == [str(made.reports[0].path.relative_to(store.root))]
    assert "About second" in both.page.read_text()


def test_an_interrupt_leaves_a_page_of_what_is_finished(experiments, store, runtime) -> None:
    def interrupted(table):
        raise KeyboardInterrupt

    experiments["second"].draw = interrupted
    with pytest.raises(KeyboardInterrupt):
        reproduce("all", "smoke", None, store, runtime)
    page = (store.root / "reports" / "index.html").read_text()
    assert "About first" in page
    assert "About second" not in page


def test_experiments_that_do_not_fit_the_data_are_skipped(experiments, teacher) -> None:
    experiments["sentences"] = experiment("sentences", teacher, takes="mine:sentences")
    configs, skipped = plan_reports("all", "smoke")
    assert [(config.experiment, config.data) for config in configs] == [
        ("first", "digits"),
        ("second", "digits"),
        ("sentences", "mine:sentences"),
    ]
    assert skipped == {}
    configs, skipped = plan_reports("all", "smoke", "digits")
    assert [config.experiment for config in configs] == ["first", "second"]
    assert list(skipped) == ["sentences"]
    with pytest.raises(UserError, match="expected digits"):
        plan_reports("all", "smoke", "mnist")
    with pytest.raises(UserError, match="expected mine:sentences"):
        plan_reports("sentences", "smoke", "digits")
