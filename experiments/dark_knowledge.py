"""What does label smoothing do to what a teacher knows, and to what reaches its students?

Reproduces in one picture: Müller, Kornblith & Hinton 2019 (sections 2 to 4: smoothed teachers lose the
information that distinguishes the wrong classes, and teach worse) by the means of Hinton, Vinyals & Dean 2015
(section 3: what a student knows of a class that it has never seen can only come from its teacher).

Per seed: two teachers that differ in nothing but smoothing, one logit cache each, and students that differ in
nothing but their targets; then the same students with one class left out of the transfer set.

Cost at `quick` on two CPU cores: digits (10 seeds, 340 nets) 70 seconds, fashion-mnist (5 seeds, 170 nets) 17
minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.reports.experiment import Published, Runs, Saying, Scale, Table
from experiments import figures
from experiments.base import DIGITS, setting
from experiments.conditions import (
    HARD,
    OF_LABELS,
    OF_SMOOTHED_LABELS,
    SMOOTHED,
    between,
    caches,
    claims,
    distilled,
    labelled,
    named,
    never_seen,
    smoothed,
    student_of,
)
from experiments.reliability import FEW, reliability

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = (1.0, 4.0, 16.0)

DATA = DIGITS
PAPER = [
    Published("Hinton 2015, section 3: recall of an unseen 3 after bias correction (MNIST)", 0.986),
    Published("Müller 2019, Table 3: ECE of ResNet-56 on CIFAR-100, ε=0", 0.150),
    Published("Müller 2019, Table 3: ECE of ResNet-56 on CIFAR-100, ε=0.05", 0.024),
    Published("Müller 2019, section 4: MNIST test error of a student of the teacher with ε=0", 0.0074),
    Published("Müller 2019, section 4: MNIST test error of a student of the teacher with ε=0.1", 0.0091),
]


_BOTH = {temperature: (student_of(0.1, temperature), student_of(0, temperature)) for temperature in TEMPERATURES}
# fmt: off
CLAIMS = [
    *between(SMOOTHED, HARD, ("ece", "smoothing lowers the teacher's ECE", "ece", "lower"),
             ("variance", "smoothing shrinks the inter-class logit variance", "interclass_variance", "lower"),
             ("variance-relative", "smoothing shrinks it relative to the squared gap",
             "interclass_variance_relative", "lower")),
    *never_seen("unseen-T{:g}", _BOTH),
    *claims("accuracy-T{:g}", "T={:g}: a student of the smoothed teacher is less accurate", "accuracy", _BOTH,
            "lower"),
]
# fmt: on
ANSWER = [
    Saying(
        "smoothing shrinks what a teacher's logits say about the wrong classes",
        "smoothing widens what a teacher's logits say about the wrong classes",
        "undecided whether smoothing shrinks what a teacher's logits say about the wrong classes",
        {"variance-relative": ""},
    ),
    Saying(
        "its students know a class they never saw less {}",
        "its students know a class they never saw better {}",
        "undecided how well its students know a class they never saw {}",
        {f"unseen-T{each:g}": f"at T = {each:g}" for each in TEMPERATURES},
    ),
    Saying(
        "its students are less accurate {}",
        "its students are more accurate {}",
        "their accuracy is undecided {}",
        {f"accuracy-T{each:g}": f"at T = {each:g}" for each in TEMPERATURES},
    ),
]


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting(data, scale)
    built: Runs = {}
    for seed in range(chosen.seeds):
        taught = smoothed(chosen.teacher.replace(seed=seed), SMOOTHINGS)
        built |= labelled(named(taught), seed)
        for unseen in (None, *chosen.left_out):
            student = chosen.student.replace(seed=seed, exclude_classes=() if unseen is None else (unseen,))
            of_labels = {OF_LABELS: student, OF_SMOOTHED_LABELS: student.with_loss(smoothing=SMOOTHINGS[-1])}
            of_teachers = distilled(student, caches(taught, student), TEMPERATURES)
            built |= labelled(of_labels | of_teachers, seed, unseen)
    return built


_RELIABILITY = (
    "Reliability of the teachers, all seeds together: accuracy against mean confidence in each bin, on the "
    "diagonal if calibrated (Guo et al. 2017), and below, on a log scale, the share of predictions in the bin. "
    f"Bins with fewer than {FEW} predictions are pale. Beside each name the ECE in %, mean over seeds with 95 % "
    "interval."
)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the headline picture first."""
    return {
        "nontarget_spread": figures.nontarget_spread(table),
        "unseen_recall": figures.unseen_recall(table),
        "accuracy_by_temperature": figures.accuracy_by_temperature(table),
        "reliability": reliability(table, _RELIABILITY),
    }
