"""Is it the temperature? Students of a smoothed teacher and of a hard one, as the temperature rises.

Reproduces Chandrasegaran et al. 2022, "Revisiting label smoothing and knowledge distillation compatibility".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import StudentConfig, TeacherConfig
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES
from experiments.pure_distillation import runs_at

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    return runs_at(scale, data, TEMPERATURES, of_labels_too=False)


def probes(scale: Scale, data: str) -> tuple[()]:
    """None: what every network is measured by is enough."""
    return ()


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
