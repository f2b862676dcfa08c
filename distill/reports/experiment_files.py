"""Find experiments by the names of their files."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from distill.errors import UserError
from distill.reports.experiment import Experiment
from distill.system.version import clone

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
    if "experiments" not in sys.modules:
        # The path of modules is not searched, and does not get the folder, in which may lie a `timm.py`.
        spec = importlib.util.spec_from_file_location("experiments", folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["experiments"] = package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"experiments.{name}")  # pyright: ignore[reportReturnType]


def experiments_folder() -> Path:
    """Return `experiments/` of the clone that this package lies in.

    Raises:
        UserError: the package does not lie in a clone, so that a folder of this name beside it is another one.
    """
    folder = clone()
    if folder is None:
        here = str(Path(__file__).parents[2])
        expected = "a clone of the source repository: an installed package has no experiments"
        raise UserError("experiment", here, expected, "Clone it, and run `pip install -e .` there.")
    return folder / "experiments"


def experiment_names() -> list[str]:
    """Return the names of all experiments, sorted."""
    return sorted(path.stem for path in experiments_folder().glob("*.py") if is_experiment(path))


def is_experiment(path: Path) -> bool:
    """Tell whether a file is an experiment: it defines `runs`."""
    return b"\ndef runs(" in path.read_bytes()
