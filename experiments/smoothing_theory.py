"""What label smoothing does, on paper and in a trained network.

COST
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import (
    AugmentConfig,
    KnowledgeProbe,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DIGITS, setting, teachers

REPRODUCES = ""
DATA = DIGITS
SMOOTHINGS = (0.05, 0.1, 0.2, 0.4)
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting(data, scale)
    teacher = chosen.teacher
    if data == "digits":
        # Nothing but the loss: no decay, no clipping, no views, and wide enough to reach the minimum.
        teacher = teacher.replace(
            model=ModelConfig(name="mlp", kwargs={"widths": [512]}),
            augment=AugmentConfig(),
            optim=OptimConfig(lr=0.1, clip=None),
            schedule=ScheduleConfig(epochs=60 if scale == "smoke" else 300, batch_size=64),
        )
    seeds = range(chosen.seeds)
    found: dict[Label, TeacherConfig | StudentConfig] = {**teachers(teacher, seeds, (0.0, *SMOOTHINGS))}
    others = teacher.replace(smoothing=0.1, smoothing_convention="others")
    return found | {Label("teacher ε=0.1 over the others", seed): others.replace(seed=seed) for seed in seeds}


def probes(scale: Scale, data: str) -> tuple[KnowledgeProbe]:
    """The gap of training images."""
    return (KnowledgeProbe(),)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
