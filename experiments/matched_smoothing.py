"""Does a smoothed teacher teach worse where its targets are as soft as those of another? Section 4 at one γ.

On MNIST, students of Müller, Kornblith & Hinton 2019 match logits, which has no temperature; and at one temperature
a smoothed teacher's answers are softer than another's. So each of the four teachers of `mnist_distillation.py` also
teaches by KL at temperatures at which its answers put the same mass on the wrong classes: equivalent smoothing γ of
0.1, 0.3 and 0.6 (`--loss.equivalent-smoothing`). At one γ, what is left is which wrong classes a teacher names.
Teachers, caches and students that match logits are those of that experiment.

The soft term has weight 0.6 beside the labels, as there, and T on both sides, with T². A teacher that is wrong on
too many training images cannot reach γ = 0.1; its students are then listed as left out.

The numbers are of the test set, on which nothing was selected here.

Cost beside that experiment, of which it takes all seeds at `quick` and three above: 12 students a seed, at `quick`
on two CPU cores 60 of them, about 20 minutes. On MNIST itself: `--data mnist --scale paper`, where one takes 12
minutes of one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from distill.config import LossConfig, StudentConfig
from distill.metrics.verdict import Interval, interval
from distill.reports.experiment import Runs, Scale, Table
from experiments import drawing, mnist_distillation
from experiments.conditions import claims
from experiments.mnist_distillation import PLACES, STUDENT_PAIRS, STUDENTS

GAMMAS = (0.1, 0.3, 0.6)
"""Equivalent smoothing of the targets at which teachers are compared."""

DATA = mnist_distillation.DATA


def at_gamma(student: str, gamma: float) -> str:
    """Name the student that learns by KL at an equivalent smoothing, as the one that matches logits is named."""
    return f"{student}, γ={gamma:g}"


_PAIRS = {
    (gamma, *place): (at_gamma(condition, gamma), at_gamma(versus, gamma))
    for gamma, (place, (condition, versus)) in product(GAMMAS, zip(PLACES.items(), STUDENT_PAIRS, strict=True))
}
CLAIMS = claims(
    "gamma{:g}{}",
    "γ={0:g}: smoothing {2} makes the student of the teacher less accurate",
    "accuracy",
    _PAIRS,
    "lower",
)


def runs(scale: Scale, data: str) -> Runs:
    """Build the networks of section 4, and each student of a teacher at each γ, under their labels."""
    seeds = 3 if scale in ("short", "paper") else None
    built = {
        label: config
        for label, config in mnist_distillation.runs(scale, data).items()
        if seeds is None or label.seed < seeds
    }
    gammas = GAMMAS[-1:] if scale == "smoke" else GAMMAS  # the others may be out of reach after few epochs
    for label, config in list(built.items()):
        if label.condition in STUDENTS and isinstance(config, StudentConfig):
            for gamma in gammas:
                matched = LossConfig(equivalent_smoothing=gamma, alpha=config.loss.alpha)
                built[label._replace(condition=at_gamma(label.condition, gamma))] = config.replace(loss=matched)
    return built


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the students of each teacher by γ, and beside them those that match logits."""
    figure = drawing.new_figure(
        4.1,
        "Test error of students by the equivalent smoothing γ of their targets, and of those that match logits: "
        "means over seeds with 95 % intervals. Blue: teachers of hard labels; vermilion: of smoothed ones; dashed: "
        "with dropout. At one γ teachers put the same mass on the wrong classes, and differ in which they name.",
    )
    axes = figure.subplots()
    for index, student in enumerate(STUDENTS):
        conditions = [*(at_gamma(student, gamma) for gamma in GAMMAS), student]
        errors = {place + 0.05 * (index - 1.5): _error(table, each) for place, each in enumerate(conditions)}
        color, dashed = drawing.color_of(student, table), "dropout" in student
        style: dict[str, Any] = {"marker": "s" if dashed else "o", "linestyle": "--" if dashed else "-"}
        shown = {place: error for place, error in errors.items() if error is not None}
        drawing.points(axes, shown, color=color, label=student, **style, **drawing.BARS)
    if not axes.has_data():
        drawing.say_nothing(axes)
    axes.set_xticks(range(len(GAMMAS) + 1), [*(f"γ={gamma:g}" for gamma in GAMMAS), "logits"])
    axes.set_ylabel("test error, %")
    drawing.open_frame(axes)
    drawing.legend_below(figure)
    return {"errors": figure}


def _error(table: Table, condition: str) -> Interval | None:
    """Return the mean test error in %, with its interval; None if there is no run."""
    values = table.by_seed(condition, "accuracy").values()
    return interval(100 * (1 - value) for value in values) if values else None
