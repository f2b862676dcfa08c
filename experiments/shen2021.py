"""Is label smoothing truly incompatible with distillation? Teachers and students at T = 1.

Reproduces Shen et al. 2021, "Is label smoothing truly incompatible with knowledge distillation".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import KnowledgeProbe, StudentConfig, TeacherConfig
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES
from experiments.pure_distillation import runs_at

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    return runs_at(scale, data, (1.0,), of_labels_too=True)


def probes(scale: Scale, data: str) -> tuple[KnowledgeProbe]:
    """The measures of training images, among them theirs."""
    return (KnowledgeProbe(),)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
