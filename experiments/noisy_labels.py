"""Wrong labels: what hard, smoothed and distilled networks make of them, and how many they learn by heart.

COST
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import (
    CacheConfig,
    LossConfig,
    MemorisationProbe,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, setting_of_figures

REPRODUCES = ""
DATA = DATA_OF_FIGURES
NOISE = (("symmetric", 0.0), ("symmetric", 0.2), ("symmetric", 0.4), ("pair", 0.2), ("pair", 0.4))
SMOOTHINGS = (0.0, 0.1, 0.3)
TEMPERATURES = (1.0, 4.0)
_OWN = 1000
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def _noise(kind: str, rate: float) -> str:
    return f"{rate:.0%} {kind}" if rate else "clean"


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    teacher = chosen.teacher
    if scale == "quick" and teacher.data.limit:
        # Few images, so that hard labels are learned by heart in a short time, wrong ones too.
        teacher = teacher.replace(
            data=teacher.data.replace(limit=teacher.data.limit // 2), schedule=ScheduleConfig(epochs=20)
        )
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(min(chosen.seeds, 3)):
        for kind, rate in NOISE:
            images = teacher.data.replace(label_noise=rate, noise=kind if rate else "symmetric")
            where = _noise(kind, rate)
            for smoothing in SMOOTHINGS:
                found[Label(f"teacher ε={smoothing:g}, {where}", seed)] = teacher.replace(
                    data=images, seed=seed, smoothing=smoothing
                )
            cache = CacheConfig(teacher=teacher.replace(data=images, seed=seed), transfer_set=images)
            for temperature in TEMPERATURES:
                found[Label(f"student, T={temperature:g}, {where}", seed)] = StudentConfig(
                    data=images,
                    model=teacher.model,
                    optim=teacher.optim,
                    schedule=teacher.schedule,
                    precision=teacher.precision,
                    cache=cache,
                    loss=LossConfig(temperature=temperature),
                    seed=seed + _OWN,  # initial weights that are not its teacher's
                )
    return found


def probes(scale: Scale, data: str) -> tuple[MemorisationProbe]:
    """Accuracy on the wrong labels."""
    return (MemorisationProbe(),)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
