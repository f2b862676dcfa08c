"""What does label smoothing do to what a teacher knows, and to what reaches its students?

Reproduces in one picture: Müller, Kornblith & Hinton 2019 (sections 2 to 4: smoothed teachers lose the
information that distinguishes the wrong classes, and teach worse) by the means of Hinton, Vinyals & Dean 2015
(section 3: what a student knows of a class that it has never seen can only come from its teacher).

Per seed: two teachers that differ in nothing but smoothing, one logit cache each, and students that differ in
nothing but their targets; then the same students with one class left out of the transfer set.

Cost at `quick` on two CPU cores: digits (10 seeds, 340 nets) 70 seconds, fashion-mnist (5 seeds, 170 nets) 17
minutes. Command: `scripts/reproduce` or `distill reproduce dark_knowledge --data fashion-mnist`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import CacheConfig, LossConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Claim, Label, Published, Scale, Table
from experiments import figures
from experiments.base import DIGITS, Setting, setting
from experiments.reliability import FEW, reliability

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = (1.0, 4.0, 16.0)

HARD, SMOOTHED = "teacher ε=0", "teacher ε=0.1"

REPRODUCES = ""
DATA = DIGITS
PAPER = [
    Published("Hinton 2015, section 3: recall of an unseen 3 after bias correction (MNIST)", 0.986),
    Published("Müller 2019, Table 3: ECE of ResNet-56 on CIFAR-100, ε=0", 0.150),
    Published("Müller 2019, Table 3: ECE of ResNet-56 on CIFAR-100, ε=0.05", 0.024),
    Published("Müller 2019, section 4: MNIST test error of a student of the teacher with ε=0", 0.0074),
    Published("Müller 2019, section 4: MNIST test error of a student of the teacher with ε=0.1", 0.0091),
]


def _student(smoothing: float, temperature: float) -> str:
    return f"student of ε={smoothing:g}, T={temperature:g}"


CLAIMS = [
    Claim("ece", "smoothing lowers the teacher's ECE", "ece", SMOOTHED, HARD, "lower"),
    Claim(
        "variance",
        "smoothing shrinks the inter-class logit variance",
        "interclass_variance",
        SMOOTHED,
        HARD,
        "lower",
    ),
    Claim(
        "variance-relative",
        "smoothing shrinks it relative to the squared gap",
        "interclass_variance_relative",
        SMOOTHED,
        HARD,
        "lower",
    ),
    *(
        Claim(
            f"unseen-T{temperature:g}",
            f"T={temperature:g}: a student of the smoothed teacher recognises a class it never saw less",
            "unseen_recall_corrected",
            _student(0.1, temperature),
            _student(0, temperature),
            "lower",
        )
        for temperature in TEMPERATURES
    ),
    *(
        Claim(
            f"accuracy-T{temperature:g}",
            f"T={temperature:g}: a student of the smoothed teacher is less accurate",
            "accuracy",
            _student(0.1, temperature),
            _student(0, temperature),
            "lower",
        )
        for temperature in TEMPERATURES
    ),
]


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting(data, scale)
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        teachers = {
            smoothing: chosen.teacher.replace(seed=seed).with_loss(smoothing=smoothing) for smoothing in SMOOTHINGS
        }
        for smoothing, teacher in teachers.items():
            found[Label(f"teacher ε={smoothing:g}", seed)] = teacher
        for unseen in (None, *chosen.left_out):
            for condition, student in _students(chosen, teachers, seed, unseen).items():
                found[Label(condition, seed, unseen)] = student
    return found


def _students(
    chosen: Setting, teachers: Mapping[float, TeacherConfig], seed: int, unseen: int | None
) -> dict[str, StudentConfig]:
    common: dict[str, Any] = {"seed": seed, "exclude_classes": () if unseen is None else (unseen,)}

    def student(loss: LossConfig, cache: CacheConfig | None = None) -> StudentConfig:
        return chosen.student.replace(**common, loss=loss, cache=cache)

    found = {
        "student of labels": student(LossConfig(alpha=0)),
        "student of smoothed labels": student(LossConfig(alpha=0, smoothing=SMOOTHINGS[-1])),
    }
    for smoothing, teacher in teachers.items():
        cache = CacheConfig(teacher=teacher, transfer_set=teacher.data)
        for temperature in TEMPERATURES:
            loss = LossConfig(alpha=1, temperature=temperature)
            found[_student(smoothing, temperature)] = student(loss, cache)
    return found


_RELIABILITY = (
    "Reliability of the teachers, all seeds together: accuracy against mean confidence in each bin, on the "
    "diagonal if calibrated (Guo et al. 2017), and below, on a log scale, the share of predictions in the bin. "
    f"Bins with fewer than {FEW} predictions are pale. Beside each name the ECE in %, mean over seeds with 95 % "
    "interval."
)


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report, the headline picture first."""
    return {
        "nontarget_spread": figures.nontarget_spread(table),
        "unseen_recall": figures.unseen_recall(table),
        "accuracy_by_temperature": figures.accuracy_by_temperature(table),
        "reliability": reliability(table, _RELIABILITY),
    }
