"""Can a smoothed teacher be given back its dark knowledge? Other losses, temperatures, checkpoints and MaxSup.

Where smoothing hurts (few images, a high temperature), which remedy closes the gap to the teacher of hard labels?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from distill.config import AugmentConfig, CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, setting_of_figures

SMOOTHING = 0.1
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
REMEDIES = {
    "standardised": LossConfig(soft="standardised", temperature=2),
    "DIST": LossConfig(soft="dist", temperature=1),
    "DKD": LossConfig(soft="dkd", temperature=4),
    "WSL": LossConfig(soft="wsl", temperature=2),
    "decoupled temperatures": LossConfig(soft="decoupled", temperature=2, kwargs={"label_temperature": 4}),
}
"""Loss of a student, at the temperatures of the papers that propose it."""
PARTS = 5
"""Snapshots of the smoothed teacher along its training."""
TRANSFER_SHARE = 0.01
"""Of the teacher's images, the part that students see."""
HARD, SMOOTHED, SUPPRESSED = "teacher ε=0", f"teacher ε={SMOOTHING:g}", f"teacher MaxSup {SMOOTHING:g}"

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []
OF_LABELS = "student of labels"


def _student(teacher: str, how: str) -> str:
    return f"student of {teacher.removeprefix('teacher ')}, {how}"


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    all_images = 1_000 if data == "digits" else 10_000 if scale in ("smoke", "quick") else 40_000
    base = chosen.teacher.replace(data=chosen.teacher.data.replace(limit=all_images), augment=AugmentConfig())
    student = _of_few(chosen.student, all_images)
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        teachers = {
            HARD: base,
            SMOOTHED: base.replace(smoothing=SMOOTHING, snapshots=PARTS),
            SUPPRESSED: base.replace(smoothing=SMOOTHING, smoothing_convention="maxsup"),
        }
        found[Label(OF_LABELS, seed)] = student.replace(seed=seed)
        for name, teacher in teachers.items():
            teacher = teacher.replace(seed=seed)
            found[Label(name, seed)] = teacher
            for how, cache, loss in _ways(CacheConfig(teacher=teacher, transfer_set=student.data)):
                found[Label(_student(name, how), seed)] = student.replace(seed=seed, cache=cache, loss=loss)
    return found


def _of_few(student: StudentConfig, all_images: int) -> StudentConfig:
    """A student of a part of the images, for as many steps as if it had all of them."""
    schedule, count = student.schedule, round(TRANSFER_SHARE * all_images)
    batch_size = min(schedule.batch_size, count)
    epochs = round(schedule.epochs * (all_images // schedule.batch_size) / (count // batch_size))
    return student.replace(
        data=student.data.replace(limit=count),
        schedule=schedule.replace(epochs=epochs, batch_size=batch_size),
    )


def _ways(cache: CacheConfig) -> Iterator[tuple[str, CacheConfig, LossConfig]]:
    """How a student can learn from one teacher: name, what it reads, and its loss."""
    for temperature in TEMPERATURES:
        yield f"T={temperature:g}", cache, LossConfig(temperature=temperature)
    for name, loss in REMEDIES.items():
        yield name, cache, loss
    kept = cache.teacher.snapshots if isinstance(cache.teacher, TeacherConfig) else 0
    for part in range(1, kept):
        yield f"T=4, checkpoint {part} of {kept}", cache.replace(snapshot=part), LossConfig(temperature=4)


def probes(scale: Scale, data: str) -> tuple[()]:
    """None: what every network is measured by is enough."""
    return ()


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
