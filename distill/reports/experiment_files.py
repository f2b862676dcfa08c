"""Find experiments by the names of their files."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

from distill.errors import UserError
from distill.reports.experiment import Experiment

ALL = "all"
"""Name that stands for every experiment."""


def load_experiment(name: str) -> Experiment:
    """Import the module `experiments/<name>.py`.

    Raises:
        UserError: there is no such experiment.
    """
    folder, known = experiments_folder(), experiment_names()
    if name not in known:
        expected = f"{ALL}, or one of {', '.join(known) or 'none'}"
        raise UserError("experiment", name, expected, f"They lie in {folder}/.")
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    return importlib.import_module(f"experiments.{name}")  # pyright: ignore[reportReturnType]


def experiments_folder() -> Path:
    """Return `experiments/` of the working directory, else of the clone that this package is installed from."""
    here = Path.cwd() / "experiments"
    return here if here.is_dir() else Path(__file__).parents[2] / "experiments"


def experiment_names() -> list[str]:
    """Return the names of all experiments, sorted."""
    return sorted(path.stem for path in experiments_folder().glob("*.py") if is_experiment(path))


def is_experiment(path: Path) -> bool:
    """Tell whether a file is an experiment: it defines `runs`."""
    return "\ndef runs(" in path.read_text()
