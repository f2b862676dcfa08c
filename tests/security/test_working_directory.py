"""What lies in the working directory runs only if the user names it, there or in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.reports import experiment_files
from distill.system import trust, version
from distill.system.plugins import resolve
from tests.memory import forget_names

pytestmark = pytest.mark.fault("plug-ins that nobody named")

PROJECT = Path(__file__).parents[2]
RAN = 'from pathlib import Path\nPath(__file__).with_name("ran").touch()\n'
NET = """import os, sys
from torch import nn
assert sys.path[-1] == os.getcwd(), sys.path
def net(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose modules have the names of others; each makes the file `ran`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "experiments").mkdir()
    for name in ("tqdm", "pydantic", "torch", "timm", "atexit", "signal", "pickle", "experiments/dark_knowledge"):
        (tmp_path / f"{name}.py").write_text(f"{RAN}def runs(scale, data): return dict()\n")
    forget_names(monkeypatch)
    return tmp_path


def distill(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "distill", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_nothing_runs_that_nobody_named(folder: Path) -> None:
    done = distill("reproduce", "no_such")
    assert done.returncode == 2
    assert "patience" in done.stderr, "the experiments are those of the clone"
    assert not list(folder.rglob("ran"))


@pytest.mark.slow  # imports torch in two processes
def test_nothing_else_runs_in_a_child_that_a_plug_in_is_named_for(folder: Path) -> None:
    (folder / "mine.py").write_text(NET)
    flags = ("--schedule.epochs", "1", "--executor", "pool", "--device", "cpu", "--store", "store")
    done = distill("teacher", "--model.name", "mine:net", *flags)
    assert not done.returncode, done.stderr
    assert not list(folder.rglob("ran"))


@pytest.mark.parametrize("module", ["timm", "pickle", "timm.data", "atexit"])
def test_a_plug_in_that_something_installed_hides_is_refused(folder: Path, module: str) -> None:
    trust.name(f"{module}:net")
    with pytest.raises(UserError, match=rf"a name of its own.*Rename '{module.partition('.')[0]}\.py'"):
        resolve(f"{module}:net", "data.name")
    assert not list(folder.rglob("ran"))


def test_experiments_are_of_the_clone_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiment_files.experiments_folder() == PROJECT / "experiments"
    installed = folder / "site-packages" / "distill" / "system" / "version.py"
    monkeypatch.setattr(version, "__file__", str(installed))
    (folder / "site-packages" / "experiments").mkdir(parents=True)
    with pytest.raises(UserError, match="a clone of the source repository"):
        experiment_files.experiments_folder()


def test_an_experiment_puts_no_folder_on_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if Path(each or ".").resolve() != PROJECT])
    path = [*sys.path]
    assert Path(str(experiment_files.load_experiment("patience").__file__)).parent == PROJECT / "experiments"
    assert sys.path == path
