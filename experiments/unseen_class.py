"""What does a teacher say about a class that its student never sees? Every class left out in turn, and pairs only.

Reproduces two experiments of Hinton, Vinyals & Dean 2015, section 3, and asks what label smoothing does to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, num_classes, setting_of_figures

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = (1.0, 4.0, 16.0)
PAIRS = ((7, 8), (2, 4))
"""Hinton's 7s and 8s, which on Fashion-MNIST are sneakers and bags; and pullovers and coats, which look alike."""

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


def _teacher(smoothing: float) -> str:
    return f"teacher ε={smoothing:g}"


def _distilled(smoothing: float, temperature: float, pair: tuple[int, int] | None = None) -> str:
    return f"student of ε={smoothing:g}, T={temperature:g}" + _only(pair)


def _of_labels(pair: tuple[int, int] | None = None) -> str:
    return "student of labels" + _only(pair)


def _only(pair: tuple[int, int] | None) -> str:
    return f", only {pair[0]} and {pair[1]}" if pair else ""


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    # A set of one's own may have few classes.
    classes = num_classes(data) or max(chosen.left_out) + 1
    unseen = chosen.left_out if scale == "smoke" else range(classes)
    pairs = [pair for pair in PAIRS if max(pair) < classes][: 1 if scale == "smoke" else None]
    student = chosen.student
    if scale == "quick":
        student = student.replace(schedule=student.schedule.replace(epochs=10))
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        teachers = {smoothing: chosen.teacher.replace(seed=seed, smoothing=smoothing) for smoothing in SMOOTHINGS}
        found |= {Label(_teacher(smoothing), seed): teacher for smoothing, teacher in teachers.items()}
        for cls in (None, *unseen):
            excluded = () if cls is None else (cls,)
            each = student.replace(seed=seed, exclude_classes=excluded)
            found |= {Label(condition, seed, cls): run for condition, run in _students(each, teachers, None)}
        for pair in pairs:
            excluded = tuple(cls for cls in range(classes) if cls not in pair)
            # As many steps on fewer images.
            epochs = round(student.schedule.epochs * classes / 2)
            schedule = student.schedule.replace(epochs=epochs)
            each = student.replace(seed=seed, exclude_classes=excluded, schedule=schedule)
            found |= {Label(condition, seed): run for condition, run in _students(each, teachers, pair)}
    return found


def _students(
    student: StudentConfig, teachers: Mapping[float, TeacherConfig], pair: tuple[int, int] | None
) -> Iterator[tuple[str, StudentConfig]]:
    """A student of labels, and one of each teacher at each temperature, by condition."""
    yield _of_labels(pair), student
    for (smoothing, teacher), temperature in product(teachers.items(), TEMPERATURES):
        cache = CacheConfig(teacher=teacher, transfer_set=teacher.data)
        loss = LossConfig(alpha=1, temperature=temperature)
        yield _distilled(smoothing, temperature, pair), student.replace(cache=cache, loss=loss)


def probes(scale: Scale, data: str) -> tuple[()]:
    """None: what every network is measured by is enough."""
    return ()


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
