"""Every experiment is built at every scale, and run from end to end at smoke."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.artifact import key
from distill.cli import main
from distill.config import StudentConfig, TeacherConfig
from distill.pipeline import _is_experiment, load_experiment, plan_report

FOLDER = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.stem for path in FOLDER.rglob("*.py") if _is_experiment(path))


def test_there_are_experiments_and_the_readme_names_them() -> None:
    assert "dark_knowledge" in NAMES
    readme = (FOLDER.parent / "README.md").read_text()
    assert [name for name in NAMES if name not in readme] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", ["digits", "fashion-mnist", "cifar10"])
@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_it_is_built_at_every_scale(name: str, data: str, scale) -> None:
    runs = load_experiment(name).runs(scale, data)
    assert len({key(config) for config in runs.values()}) == len(runs), "no network is trained under two labels"
    claims = load_experiment(name).CLAIMS
    conditions = {label.condition for label in runs}
    assert {claim.condition for claim in claims} | {claim.versus for claim in claims} <= conditions
    assert plan_report(name, scale, data).analyses


def test_teachers_and_students_differ_in_nothing_else() -> None:
    runs = load_experiment("dark_knowledge").runs("quick", "digits")
    assert max(label.seed for label in runs) == 9
    for label, config in runs.items():
        if isinstance(config, TeacherConfig):
            twin = next(c for at, c in runs.items() if at.seed == label.seed)
            assert isinstance(twin, TeacherConfig)
            assert config.replace(smoothing=0) == twin.replace(smoothing=0)
        elif isinstance(config, StudentConfig):
            twin = next(c for at, c in runs.items() if at.seed == label.seed and isinstance(c, StudentConfig))
            alike = {"cache": None, "loss": twin.loss, "exclude_classes": ()}
            assert config.replace(**alike) == twin.replace(**alike)
            assert config.exclude_classes == (() if label.unseen is None else (label.unseen,))


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_the_second_time_does_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["reproduce", name, "--scale", "smoke", "--device", "cpu", "--store", str(tmp_path), "--jobs", "1"]
    main(command)
    told = capsys.readouterr().out
    claims = list(load_experiment(name).CLAIMS)
    verdicts = [line for line in told.splitlines() if line.startswith(("reproduced", "contradicted", "undecided"))]
    assert len(verdicts) == len(claims)
    report = Path(told.split("report ")[-1].split()[0])
    assert report.exists()
    summary = json.loads((report.parent / "summary.json").read_text())
    assert len(summary["claims"]) == len(claims)
    assert summary["diverged"] == []
    assert "tensorboard --logdir" in told
    monkeypatch.setattr("distill.pipeline.run_stage", lambda *_: pytest.fail("nothing is to be done"))
    main(command)
    assert capsys.readouterr().out == told
