"""The source hash of a report covers its experiment and what that imports, and nothing else."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from distill.pipeline.experiments import plan_report, source_files
from distill.reports import experiment_files
from distill.store.key import key

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all experiments, to edit; what is loaded are those that there are."""
    shutil.copytree(FOLDER, tmp_path / "experiments", ignore=shutil.ignore_patterns("results", "__pycache__"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(experiment_files, "experiments_folder", lambda: tmp_path / "experiments")
    return tmp_path / "experiments"


def keys() -> dict[str, str]:
    """Experiment → key of its report."""
    return {name: key(plan_report(name, "smoke")) for name in experiment_files.experiment_names()}


def changed(path: Path) -> set[str]:
    """Experiments whose report has another key after an edit of this file."""
    before = keys()
    path.write_text(path.read_text() + "# edited\n")
    after = keys()
    return {name for name in before if before[name] != after[name]}


def test_an_edited_experiment_changes_no_other_report(copy: Path) -> None:
    assert changed(copy / "patience.py") == {"patience"}


def test_an_edited_drawing_changes_the_reports_that_import_it(copy: Path) -> None:
    assert changed(copy / "reliability.py") == {"dark_knowledge", "fig2_calibration", "fig3_sequence"}
    assert changed(copy / "smoothing_map.py") == {"when_smoothing_hurts"}


def test_what_is_imported_through_others_counts(copy: Path) -> None:
    """Some import `base` through another module; the experiment on sentences has networks of its own."""
    names = set(experiment_files.experiment_names())
    assert changed(copy / "base.py") == names - {"fig3_sequence"}
    assert changed(copy / "pure_distillation.py") == {"chandrasegaran2022", "shen2021"}
    assert changed(copy / "drawing.py") == names
    assert changed(copy / "__init__.py") == names


@pytest.mark.parametrize(
    "line",
    [
        "import experiments.used",
        "import experiments.used as other",
        "from experiments import used",
        "from experiments.used import name",
        "from . import used",
        "from .used import name",
        "def later():\n    from experiments import used",
        "import experiments.inner.deep",
        "from experiments.inner import deep",
        "from .inner import deep",
    ],
)
def test_every_way_to_import_is_read(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiments"
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__", "used", "unused", "inner/__init__"):
        (folder / f"{name}.py").touch()
    (folder / "inner" / "deep.py").write_text("from .. import used\nimport experiments.inner.deep, torch, os.path")
    (folder / "mine.py").write_text(f"import distill.errors\n{line}\nraise AssertionError('executed')\n")
    monkeypatch.setattr(experiment_files, "experiments_folder", lambda: folder)
    found = [str(path.relative_to(folder)) for path in source_files("mine")]
    inner = ["inner/__init__.py", "inner/deep.py"] if "deep" in line else []
    assert found == ["__init__.py", *inner, "mine.py", "used.py"]
    assert source_files("no_file") == []


def test_experiments_of_the_clone_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiment_files.experiments_folder() == FOLDER
