"""Every experiment is built at every scale, and run from end to end at smoke."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest

from distill.cli.main import main
from distill.config import StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.metrics.measures import MEASURES
from distill.pipeline.experiments import plan_report
from distill.probes import PROBES, probe_measures
from distill.reports.experiment import Experiment, Label, Scale, Table
from distill.reports.experiment_files import is_experiment, load_experiment
from distill.store.key import key

FOLDER = Path(__file__).parents[2] / "experiments"
SCALES: tuple[Scale, ...] = ("smoke", "quick", "short", "paper")
NAMES = sorted(path.stem for path in FOLDER.rglob("*.py") if is_experiment(path))


def test_there_are_experiments_and_the_readme_names_them() -> None:
    assert "dark_knowledge" in NAMES
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if name not in readme] == []


def _takes(name: str, scale: Scale, data: str) -> bool:
    with suppress(UserError):
        load_experiment(name).runs(scale, data)
        return True
    return False


def _measures(experiment: Experiment) -> list[str]:
    """Names of all that reports of an experiment have an entry for."""
    of_probes = (each for probe in PROBES for each in probe_measures(probe))
    return [each.name for each in (*MEASURES, *of_probes, *getattr(experiment, "MEASURES", ()))]


def _conditions(experiment: Experiment, runs: Mapping[Label, object]) -> set[str]:
    """Conditions of all networks, and of what is derived from many, on numbers that mean nothing."""
    generator = random.Random(0)
    values = {label: {name: generator.random() for name in _measures(experiment)} for label in runs}
    table = Table(values=values, classes=tuple("abcdefghij"))
    derived = getattr(experiment, "derived", lambda _: {})(table)
    assert derived.keys().isdisjoint(runs), "what is derived has labels of its own"
    return {label.condition for label in [*runs, *derived]}


def _built() -> Iterator[tuple[str, Scale, str]]:
    """Yield each experiment at each scale on its own data set, and at two of them on others."""
    others = {"quick": {"digits", "cifar10"}, "paper": {"fashion-mnist"}}
    for name, scale in product(NAMES, SCALES):
        data = {load_experiment(name).DATA[scale], *others.get(scale, ())}
        yield from ((name, scale, each) for each in sorted(data))


@pytest.mark.parametrize(("name", "scale", "data"), [*_built()])
def test_it_is_built_at_every_scale(name: str, scale: Scale, data: str) -> None:
    experiment = load_experiment(name)
    if data not in experiment.DATA.values() and not _takes(name, scale, data):
        with pytest.raises(UserError, match=rf"^data = '{data}'"):
            plan_report(name, scale, data)
        return
    runs = experiment.runs(scale, data)
    assert len({key(config) for config in runs.values()}) == len(runs), "no network is trained under two labels"
    assert plan_report(name, scale, None if data == experiment.DATA[scale] else data).analyses
    conditions = _conditions(experiment, runs)
    compared = [{claim.condition, claim.versus} <= conditions for claim in experiment.CLAIMS]
    assert any(compared)
    assert all(compared) or scale in ("smoke", "short"), "points may be left out where time is counted"
    assert len({label.seed for label in runs}) >= (1 if scale == "smoke" else 3), "a verdict takes three"


@pytest.mark.parametrize("name", NAMES)
def test_its_module_says_what_it_is(name: str) -> None:
    experiment = load_experiment(name)
    assert set(experiment.DATA) == set(SCALES)
    assert (experiment.__doc__ or "").splitlines()[0]
    claims = list(experiment.CLAIMS)
    assert len({claim.id for claim in claims}) == len(claims)
    for claim in claims:
        assert (claim.condition, claim.measure) != (claim.versus, claim.versus_measure or claim.measure)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_paper_prints_has_its_place_here(name: str) -> None:
    """A condition that no scale has, or a measure that is in no table, would never stand beside the paper's."""
    experiment = load_experiment(name)
    scales: tuple[Scale, ...] = ("paper", "quick")
    conditions = set[str]()
    for scale in scales:
        conditions |= _conditions(experiment, experiment.runs(scale, experiment.DATA[scale]))
    paper = getattr(experiment, "PAPER", ())
    for entry in paper:
        assert (entry.condition is None) == (entry.measure is None), entry.source
        assert entry.condition is None or entry.condition in conditions, entry.source
        assert entry.measure is None or entry.measure in _measures(experiment), entry.source
    shown = {(entry.source, entry.condition, entry.measure) for entry in paper}
    assert len(shown) == len(paper), "no row twice"
    assert paper or not hasattr(experiment, "REPRODUCES")


def test_teachers_and_students_differ_in_nothing_else() -> None:
    runs = load_experiment("dark_knowledge").runs("quick", "digits")
    assert max(label.seed for label in runs) == 9
    for label, config in runs.items():
        if isinstance(config, TeacherConfig):
            twin = next(c for at, c in runs.items() if at.seed == label.seed)
            assert isinstance(twin, TeacherConfig)
            assert config.with_loss(smoothing=0) == twin.with_loss(smoothing=0)
        elif isinstance(config, StudentConfig):
            twin = next(c for at, c in runs.items() if at.seed == label.seed and isinstance(c, StudentConfig))
            alike = {"cache": None, "loss": twin.loss, "exclude_classes": ()}
            assert config.replace(**alike) == twin.replace(**alike)
            assert config.exclude_classes == (() if label.unseen is None else (label.unseen,))


@pytest.fixture(scope="module")
def all_at_smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every experiment was run once, at once."""
    store = tmp_path_factory.mktemp("store")
    main(["reproduce", "all", "--scale", "smoke", "--device", "cpu", "--store", str(store), "--jobs", "1"])
    return store


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_end_to_end_and_a_second_time_does_nothing(
    name: str, all_at_smoke: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    monkeypatch.setattr("distill.pipeline.run.run_stage", lambda *_: pytest.fail("nothing is to be done"))
    main(["reproduce", name, "--scale", "smoke", "--device", "cpu", "--store", str(all_at_smoke), "--jobs", "1"])
    told = capsys.readouterr().out
    experiment = load_experiment(name)
    claims = list(experiment.CLAIMS)
    verdicts = [line for line in told.splitlines() if line.startswith(("reproduced", "contradicted", "undecided"))]
    assert len(verdicts) == len(claims)
    assert "tensorboard --logdir" in told
    assert f"all reports  {all_at_smoke / 'reports' / 'index.html'}\n" in told
    report = Path(told.split("report ")[-1].split()[0]).parent
    summary = json.loads((report / "summary.json").read_text())
    assert summary["data"] == experiment.DATA["smoke"]
    assert len(summary["claims"]) == len(claims)
    assert summary["diverged"] == []
    assert summary["figures"]
    assert summary["provenance"]["minutes"] > 0
    measured = {(row["condition"], row["measure"]) for row in summary["rows"]}
    conditions = {condition for condition, _ in measured}
    decidable = [claim for claim in claims if {claim.condition, claim.versus} <= conditions]
    assert decidable
    for claim in decidable:
        assert (claim.condition, claim.measure) in measured, claim.id
        assert (claim.versus, claim.versus_measure or claim.measure) in measured, claim.id
    measures = {measure for _, measure in measured}
    paper = getattr(experiment, "PAPER", ())
    assert [entry.source for entry in paper if entry.measure not in measures | {None}] == []


def test_all_experiments_are_on_one_page(all_at_smoke: Path) -> None:
    reports = all_at_smoke / "reports"
    page = (reports / "index.html").read_text()
    assert sorted(re.findall(r'<h2 id="(\w+)">', page)) == sorted([*NAMES, "all"])
    assert page.count("<img ") == len(list(reports.glob("*/figures/*.svg")))
    links = re.findall(r'href="([^"#]+)"', page)
    assert len(links) == 2 * len(NAMES)
    assert all((reports / link).is_file() for link in links)


def test_the_page_is_no_artifact(all_at_smoke: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["ls"], ["gc"], ["verify"]):
        main([*command, "--store", str(all_at_smoke)])
        told = capsys.readouterr().out
        assert "reports/index.html" not in told
    assert told.count("ok ") == len(list(all_at_smoke.glob("*/*/record.json")))
