"""How much smoothing, for what use: accuracy, calibration, or teaching?

COST
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import CacheConfig, LossConfig, ScalingProbe, StudentConfig, TeacherConfig
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, images_of, of_few, setting_of_figures, teachers

REPRODUCES = ""
DATA = DATA_OF_FIGURES
SMOOTHINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6)
SHARE = 0.1
"""Of the teacher's training images, the part that students see."""
TEMPERATURES = (1.0, 4.0)
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    smoothings = SMOOTHINGS if scale != "smoke" else SMOOTHINGS[:3]
    seeds = range(chosen.seeds)
    found: dict[Label, TeacherConfig | StudentConfig] = teachers(chosen.teacher, seeds, smoothings)
    few = of_few(chosen.student, images_of(data, scale), SHARE)
    for seed in seeds:
        found[Label("student of labels", seed)] = few.replace(seed=seed, cache=None, loss=LossConfig(alpha=0))
        for smoothing in smoothings:
            teacher = chosen.teacher.replace(seed=seed, smoothing=smoothing)
            cache = CacheConfig(teacher=teacher, transfer_set=few.data)
            for temperature in TEMPERATURES:
                found[Label(f"student of ε={smoothing:g}, T={temperature:g}", seed)] = few.replace(
                    seed=seed, cache=cache, loss=LossConfig(temperature=temperature)
                )
    return found


def probes(scale: Scale, data: str) -> tuple[ScalingProbe]:
    """What temperature, vector and Platt scaling make of each network."""
    return (ScalingProbe(),)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
