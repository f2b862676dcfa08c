"""How much smoothing, for what use: accuracy, calibration, or teaching?

A question of our own, of one recipe with eight strengths of label smoothing. Held-out images choose a strength for
each use, by the rules of `distill.metrics.choice` and as `distill sweep-smoothing` does: for accuracy the highest
accuracy; for calibration the lowest ECE; for teaching the largest inter-class logit variance relative to the
squared gap, among the strengths whose accuracy is not credibly below the highest. The test set judges what was
chosen, and students prove or disprove the third answer: do those of the teacher picked for teaching become more
accurate than those of the teacher picked for accuracy?

What the paper says: smoothing raises accuracy and lowers the calibration error, about as much as temperature
scaling of a network without smoothing does (Müller et al. 2019, Tables 1 and 3); a smoothed teacher is more
accurate and teaches worse, because smoothing erases what it knows of how an image resembles other classes (section
4). From this follows that the answers differ, and that less smoothing is to be taken for teaching. Claims are asked
in this direction. The rules to pick by are ours; the paper's own sweep with students, Figure 5, is in
fig5_distillation.

Per seed: teachers of eight strengths with the same initial weights and order of images; students of a tenth of
their images, for as many steps, from each teacher's soft targets alone at T = 1 and 4, and from labels. The
temperatures of scaling are fitted on the held-out images.

How to read it. A strength is picked once, by the means over all seeds, and its teacher then has a value for each
seed: "teacher picked for accuracy". The interval is over seeds and not over other picks. Which strength one network
each would lead to is asked apart ("one seed's pick for accuracy"), for accuracy and calibration only: for teaching
one seed cannot tell which teachers are as accurate. The claims were written without a look at
the students, but after one at these teachers on Fashion-MNIST, which other experiments share. Where two uses pick
one strength, the difference is 0 and nothing is decided.

Cost at `quick` on two CPU cores: 125 networks; the 85 students and the teachers that no figure of the paper has
took 7 minutes while other work shared the cores. At `smoke` three strengths, one seed and no verdict.
Command: `distill reproduce smoothing_sweep`; of your own model and data: `distill sweep-smoothing --help`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distill.config import ScalingProbe
from distill.metrics.choice import CHOSEN_BY, Choice, Use, choose
from distill.metrics.measures import Measure, Topic
from distill.reports.experiment import Claim, Label, Runs, Scale, Table
from experiments.base import DATA_OF_FIGURES, always, images_of, of_few, setting_of_figures
from experiments.conditions import (
    HARD,
    OF_LABELS,
    between,
    caches,
    claims,
    distilled,
    labelled,
    smoothed,
    student_of,
    teacher_of,
    teachers,
)

DATA = DATA_OF_FIGURES
MEASURES = (Measure("chosen_smoothing", "chosen ε", topic=Topic("Smoothing chosen", ("accuracy", "ece"))),)
SMOOTHINGS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6)
SHARE = 0.1
"""Share of the teacher's training images that students see."""
TEMPERATURES = (1.0, 4.0)
USES: tuple[Use, ...] = ("accuracy", "calibration", "teaching")


def _picked(use: Use) -> str:
    return f"teacher picked for {use}"


def _student_of_picked(use: Use, temperature: float) -> str:
    return f"student of the teacher picked for {use}, T={temperature:g}"


def _one_seed(use: Use) -> str:
    return f"one seed's pick for {use}"


UNSCALED = "no temperature"
"""Condition that stands for T = 1, with which a fitted temperature is compared."""


def _students_of(how: str, said: str, student: Callable[[float], str]) -> list[Claim]:
    """Claim that a teacher has more accurate students than the teacher picked for accuracy."""
    return claims(
        f"students-of-{how}-T{{:g}}",
        f"T={{:g}}: the teacher {said} has more accurate students than that for accuracy",
        "accuracy",
        {at: (student(at), _student_of_picked("accuracy", at)) for at in TEMPERATURES},
        "higher",
    )


# fmt: off
CLAIMS = [
    Claim("smoothing-accuracy",
          "The strength that is picked for accuracy makes a network more accurate than no smoothing", "accuracy",
          _picked("accuracy"), HARD, "higher"),
    *between(teacher_of(0.05), HARD, ("smoothing-calibration", "ε=0.05: smoothing lowers the ECE", "ece", "lower")),
    Claim("scaling-calibration",
          "Temperature scaling without smoothing leaves a lower ECE than the strength picked for calibration",
          "temperature_ece", HARD, _picked("calibration"), "lower", versus_measure="ece"),
    Claim("overconfident", "ε=0: the fitted temperature is above 1, the network is too sure", "temperature_fitted",
          HARD, UNSCALED, "higher"),
    Claim("over-softened", "ε=0.1: the fitted temperature is below 1, the network is not sure enough",
          "temperature_fitted", teacher_of(0.1), UNSCALED, "lower"),
    Claim("calibration-is-not-accuracy",
          "Seed by seed, the best calibrated network has less smoothing than the most accurate one",
          "chosen_smoothing", _one_seed("calibration"), _one_seed("accuracy"), "lower"),
    *_students_of("teaching", "picked for teaching", partial(_student_of_picked, "teaching")),
    *_students_of("hard", "without smoothing", partial(student_of, 0)),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    smoothings = SMOOTHINGS if scale != "smoke" else SMOOTHINGS[:3]
    seeds = range(chosen.seeds)
    built = teachers(chosen.teacher, seeds, smoothings)
    few = of_few(chosen.student, images_of(data, scale), SHARE)
    for seed in seeds:
        student = few.replace(seed=seed)
        stored = caches(smoothed(chosen.teacher.replace(seed=seed), smoothings), student)
        built |= labelled({OF_LABELS: student} | distilled(student, stored, TEMPERATURES), seed)
    return built


probes = always(ScalingProbe())


_BySmoothing = dict[float, dict[str, dict[int, float]]]


def _held_out(table: Table) -> _BySmoothing:
    """Return what the choice rests on: smoothing → measure → seed → value, of held-out images."""
    measured: _BySmoothing = {}
    for smoothing in SMOOTHINGS:
        values = {name: table.by_seed(teacher_of(smoothing), f"held_out_{name}") for name in CHOSEN_BY.values()}
        if all(values.values()):
            measured[smoothing] = values
    return measured


def choices(table: Table) -> dict[str, Choice]:
    """Return what each use takes; empty without a teacher."""
    measured = _held_out(table)
    return choose(measured) if measured else {}


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return what was picked for each use, and what became of it on the test set.

    Returns:
        For each use the teacher that was picked, with `chosen_smoothing` and measures of the test set; its
        students; and `chosen_smoothing` of what one seed alone would pick. And T = 1 as `temperature_fitted`.
    """
    rows: dict[Label, dict[str, float]] = {}
    picked = choices(table)
    for use in USES if picked else ():
        smoothing = picked[use].smoothing
        for seed, values in _of(table, teacher_of(smoothing), ("accuracy", "nll", "ece")).items():
            rows[Label(_picked(use), seed)] = {"chosen_smoothing": smoothing, **values}
        for temperature in TEMPERATURES:
            for seed, values in _of(table, student_of(smoothing, temperature), ("accuracy", "nll")).items():
                rows[Label(_student_of_picked(use, temperature), seed)] = values
    for seed, picks in _by_seed(table).items():
        for use in ("accuracy", "calibration"):
            rows[Label(_one_seed(use), seed)] = {"chosen_smoothing": picks[use].smoothing}
        rows[Label(UNSCALED, seed)] = {"temperature_fitted": 1.0}
    return rows


def _of(table: Table, condition: str, measures: tuple[str, ...]) -> dict[int, dict[str, float]]:
    """Map each seed to the given measures of a condition, as far as it has them."""
    by_seed: dict[int, dict[str, float]] = {}
    for name in measures:
        for seed, value in table.by_seed(condition, name).items():
            by_seed.setdefault(seed, {})[name] = value
    return by_seed


def _by_seed(table: Table) -> dict[int, dict[str, Choice]]:
    """Return what each seed alone would pick, for seeds that have a network of every strength."""
    measured = _held_out(table)
    seeds = [{*values} for measures in measured.values() for values in measures.values()]

    def of_one(seed: int) -> _BySmoothing:
        return {
            smoothing: {name: {seed: values[seed]} for name, values in measures.items()}
            for smoothing, measures in measured.items()
        }

    return {seed: choose(of_one(seed)) for seed in sorted(set.intersection(*seeds) if seeds else ())}


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    # Imported late: it takes its names from here.
    from experiments import smoothing_sweep_figures

    return smoothing_sweep_figures.draw(table)
