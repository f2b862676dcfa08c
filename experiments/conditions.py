"""Builds what many experiments train and claim: teachers, students of their soft targets, and pairs to compare.

A condition is named by what differs: "teacher ε=0.1", "student of ε=0.1, T=4".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, Literal

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Claim, Label, Network, Runs

OF_LABELS, OF_SMOOTHED_LABELS = "student of labels", "student of smoothed labels"


def teacher_of(smoothing: float) -> str:
    """Name a teacher by its smoothing."""
    return f"teacher ε={smoothing:g}"


def student_of(smoothing: float, temperature: float) -> str:
    """Name a student by its teacher's smoothing and the temperature of its soft targets."""
    return f"student of ε={smoothing:g}, T={temperature:g}"


HARD, SMOOTHED = teacher_of(0), teacher_of(0.1)
"""The two teachers that most experiments compare."""


def labelled(runs: Mapping[str, Network], seed: int, unseen: int | None = None) -> Runs:
    """Put networks, by condition, under the labels of one seed."""
    return {Label(condition, seed, unseen): run for condition, run in runs.items()}


def smoothed(teacher: TeacherConfig, smoothings: Iterable[float]) -> dict[float, TeacherConfig]:
    """Give a teacher each strength of smoothing: ε → config."""
    return {smoothing: teacher.with_loss(smoothing=smoothing) for smoothing in smoothings}


def teachers(teacher: TeacherConfig, seeds: Iterable[int], smoothings: Iterable[float]) -> Runs:
    """Build a teacher with each seed and each strength of smoothing, under its label."""
    return {
        Label(teacher_of(smoothing), seed): teacher.replace(seed=seed).with_loss(smoothing=smoothing)
        for seed, smoothing in product(seeds, smoothings)
    }


def caches(teachers: Mapping[Any, TeacherConfig], student: StudentConfig) -> dict[Any, CacheConfig]:
    """Store the logits of each teacher on the images of a student, as they are: name → cache."""
    return {name: CacheConfig(teacher=each, transfer_set=student.data) for name, each in teachers.items()}


def distilled(
    student: StudentConfig,
    caches: Mapping[Any, CacheConfig],
    temperatures: Iterable[float],
    name: Callable[[Any, float], str] = student_of,
    **loss: Any,
) -> dict[str, StudentConfig]:
    """Build a student of the soft targets alone of each cache at each temperature: condition → config.

    Args:
        student: all but cache and loss.
        caches: what `name` calls each one, such as the ε of its teacher → cache.
        temperatures: of the loss.
        name: (name of the cache, temperature) → condition.
        loss: further fields of the loss.
    """
    return {
        name(of, temperature): student.replace(
            cache=cache, loss=LossConfig(alpha=1, temperature=temperature, **loss)
        )
        for (of, cache), temperature in product(caches.items(), tuple(temperatures))
    }


def claims(
    id_: str,
    statement: str,
    measure: str,
    pairs: Mapping[Any, tuple[str, str]],
    direction: Literal["lower", "higher"],
    versus_measure: str | None = None,
) -> list[Claim]:
    """Claim the same of several pairs of conditions.

    Args:
        id_: of each claim, with `{}` where the name of its pair goes.
        statement: likewise.
        measure: which.
        pairs: name, or several to fill in → condition, and what it is compared with.
        direction: in which the condition differs.
        versus_measure: what is measured of the other condition, where it is not `measure`.
    """
    found = []
    for named, (condition, versus) in pairs.items():
        names = named if isinstance(named, tuple) else (named,)
        said = id_.format(*names), statement.format(*names)
        found.append(Claim(*said, measure, condition, versus, direction, versus_measure))
    return found


def between(condition: str, versus: str, *claimed: tuple[str, str, str, Literal["lower", "higher"]]) -> list[Claim]:
    """Claim several things of one pair of conditions: id, statement, measure and direction of each."""
    return [
        Claim(id_, statement, measure, condition, versus, direction)
        for id_, statement, measure, direction in claimed
    ]
