"""Build what many experiments train and claim: teachers, students of their soft targets, and pairs to compare.

A condition is named by what differs: "teacher ε=0.1", "student of ε=0.1, T=4".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Claim, Direction, Label, Network, Runs

OF_LABELS, OF_SMOOTHED_LABELS = "student of labels", "student of smoothed labels"


def teacher_of(smoothing: float) -> str:
    """Name a teacher by its smoothing."""
    return f"teacher ε={smoothing:g}"


def student_of(smoothing: float, temperature: float) -> str:
    """Name a student by its teacher's smoothing and the temperature of its soft targets."""
    return f"student of ε={smoothing:g}, T={temperature:g}"


HARD, SMOOTHED = teacher_of(0), teacher_of(0.1)
"""Names of the two teachers that most experiments compare."""


def labelled(runs: Mapping[str, Network], seed: int, unseen: int | None = None) -> Runs:
    """Put networks, by condition, under the labels of one seed."""
    return {Label(condition, seed, unseen): run for condition, run in runs.items()}


def smoothed(teacher: TeacherConfig, smoothings: Iterable[float]) -> dict[float, TeacherConfig]:
    """Give a teacher each strength of smoothing: ε → config."""
    return {smoothing: teacher.with_loss(smoothing=smoothing) for smoothing in smoothings}


def named(teachers: Mapping[float, TeacherConfig]) -> dict[str, TeacherConfig]:
    """Name teachers by their smoothing: ε → config becomes condition → config."""
    return {teacher_of(smoothing): teacher for smoothing, teacher in teachers.items()}


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
        student: the student, without its cache and its loss.
        caches: key, such as the ε of the teacher → cache.
        temperatures: temperatures of the loss.
        name: function from a key and a temperature to the condition.
        loss: further fields of the loss.
    """
    losses = {temperature: LossConfig(alpha=1, temperature=temperature, **loss) for temperature in temperatures}
    return {
        name(of, temperature): student.replace(cache=cache, loss=each)
        for (of, cache), (temperature, each) in product(caches.items(), losses.items())
    }


def claims(
    id_: str,
    statement: str,
    measure: str,
    pairs: Mapping[Any, tuple[str, str]],
    direction: Direction,
    versus_measure: str | None = None,
) -> list[Claim]:
    """Make one claim for each of several pairs of conditions.

    Args:
        id_: id of each claim, with `{}` for the name of its pair.
        statement: statement of each claim, with `{}` for the name of its pair.
        measure: the measure that decides.
        pairs: name, or several to fill in → condition, and what it is compared with.
        direction: in which the condition differs.
        versus_measure: the measure of the other condition; None takes `measure`.
    """
    made = []
    for name, (condition, versus) in pairs.items():
        names = name if isinstance(name, tuple) else (name,)
        texts = id_.format(*names), statement.format(*names)
        made.append(Claim(*texts, measure, condition, versus, direction, versus_measure))
    return made


def between(condition: str, versus: str, *claimed: tuple[str, str, str, Direction]) -> list[Claim]:
    """Make several claims about one pair of conditions: id, statement, measure and direction of each."""
    return [Claim(id_, said, measure, condition, versus, direction) for id_, said, measure, direction in claimed]


_GAINS = "smoothing raises the accuracy of the teacher"
TEACHER_GAINS = between(SMOOTHED, HARD, ("teacher", _GAINS, "accuracy", "higher"))


def scaling_lowers_ece(id_: str, statement: str) -> Claim:
    """Claim that temperature scaling lowers the ECE of the teacher without smoothing."""
    return Claim(id_, statement, "scaled_ece", HARD, HARD, "lower", "ece")


def never_seen(id_: str, pairs: Mapping[float, tuple[str, str]]) -> list[Claim]:
    """Claim at each temperature that the smoothed teacher's student knows less of a class that it never saw."""
    statement = "T={:g}: a student of the smoothed teacher recognises a class it never saw less"
    return claims(id_, statement, "unseen_recall_corrected", pairs, "lower")
