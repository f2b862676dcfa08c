"""Define an experiment of tiny networks with every kind of artifact, on which faults are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.config import (
    AugmentConfig,
    CacheConfig,
    CalibrationConfig,
    DataConfig,
    LossConfig,
    ReportConfig,
    ScheduleConfig,
    SnapshotsProbe,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.pipeline.experiments import plan_report
from distill.reports.experiment import Claim, Label, Table
from tests.small import TINY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DATA = DataConfig(held_out=0.15)
_SCHEDULE = ScheduleConfig(epochs=4, batch_size=64)
_SHIFTED = AugmentConfig(pad=1)

TEACHER = TeacherConfig(
    data=_DATA,
    model=TINY,
    schedule=_SCHEDULE,
    augment=_SHIFTED,
    snapshots=2,
    ema=0.9,
    loss=LossConfig(alpha=0, smoothing=0.1),
)
CACHE = CacheConfig(teacher=TEACHER, transfer_set=_DATA, augment=_SHIFTED, views=3)
STUDENT = StudentConfig(
    cache=CACHE, data=_DATA, model=TINY, schedule=_SCHEDULE, loss=LossConfig(temperature=4, alpha=0.5)
)
CALIBRATION = CalibrationConfig(network=STUDENT)
SWEEP = SweepConfig(teacher=TEACHER.replace(snapshots=0), smoothings=(0.0, 0.1), seeds=1)

NAME = "tiny"
DATA = dict.fromkeys(("smoke", "quick", "short", "paper"), "digits")
CLAIMS = [Claim("better", "a student is better than its teacher", "accuracy", "student", "teacher", "higher")]


def runs(scale: str, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Return one teacher and one student."""
    return {Label("teacher", 0): TEACHER, Label("student", 0): STUDENT}


def probes(scale: str, data: str) -> tuple[SnapshotsProbe, ...]:
    """Return one probe that reads weights and one file more than the predictions."""
    return (SnapshotsProbe(),)


def draw(table: Table) -> dict[str, Figure]:
    """Draw one figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    values = [values["accuracy"] for values in table.values.values()]
    figure.subplots().bar(table.conditions(), values)
    return {"accuracy": figure}


def report() -> ReportConfig:
    """Return the config of the report; `load_experiment` must know this experiment."""
    return plan_report(NAME, "smoke")


def stages() -> dict[str, StageConfig]:
    """Map each stage to the config of one artifact, upstream first."""
    made = report()
    return {
        "teacher": TEACHER,
        "cache": CACHE,
        "student": STUDENT,
        "calibration": CALIBRATION,
        "analysis": made.analyses[0],
        "sweep": SWEEP,
        "report": made,
    }
