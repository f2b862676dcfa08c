"""Is it the temperature? Students of a smoothed teacher and of a hard one, as the temperature rises.

Reproduces the distillation tables of Chandrasegaran et al. 2022, "Revisiting Label Smoothing and Knowledge
Distillation Compatibility: What was Missing?" (ICML), as the README of their code prints them. They answer the
quarrel between Müller et al. (2019: smoothed teachers teach worse) and Shen et al. (2021: they need not): both are
right, at different temperatures. At T = 1 the student of the smoothed teacher is the more accurate one; at higher
temperatures it moves towards semantically similar classes ("systematic diffusion"), which cancels what smoothing
brought. Their rule: a smoothed teacher and a low temperature.

Per seed: a teacher of hard labels and one of ε=0.1, and of each a narrow student (their ResNet-18) and a wide one,
of the teacher's kind (their ResNet-50), that learn from soft targets alone: T² KL(softmax(z_t/T) ‖ softmax(z_s/T)),
T = 1, 2, 3 and 64. The claims are those of which their ImageNet and CUB tables say the same. With ResNet-18 the
student of the smoothed teacher is worse at T = 2, 3 and 64 in both. With ResNet-50 the two disagree at T = 2 and
64, and at T = 3 it is better in both: there is no claim of the wide student at these temperatures, but that warmth
costs it more when its teacher was smoothed. The rule holds for both of their ResNets; MobileNetV2 on CUB is best
with the hard teacher at T = 2. Ours is put to the test against the hard teacher's student at that of the four
temperatures which has the most accurate answers on held-out images, seed by seed.

What departs from the paper: small networks (a convolutional teacher and wide student, an MLP as narrow student),
10,000 images that are shown as they are, 15 epochs of Fashion-MNIST and 10 of other images for teachers and
students alike, top-1 alone. Not reproduced: translation, MobileNetV2, and the index of systematic diffusion, whose
formula we have not seen. At `paper` a folder of images is trained on as theirs are (ResNet-50, ResNet-18; built by
tests, not run).

Cost at `quick` on two CPU cores: 90 networks, about 20 minutes while other work shared the cores, without the 10
teachers, which are those of Figure 5. Command: `distill reproduce chandrasegaran2022`; on CIFAR-10 as files,
`distill reproduce chandrasegaran2022 --data imagefolder:PATH`, where PATH is a folder or tar with `train/CLASS/`
and `test/CLASS/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from distill.metrics.measures import Measure
from distill.reports.experiment import Label, Published, Runs, Scale, Table
from experiments import drawing
from experiments.base import DATA_OF_FIGURES
from experiments.conditions import TEACHER_GAINS, claims, teacher_of
from experiments.conditions import student_of as of_theirs
from experiments.drawing import Axes
from experiments.pure_distillation import KINDS, SMOOTHINGS, runs_at, student_of

TEMPERATURES = (1.0, 2.0, 3.0, 64.0)
LOW, HIGHER = TEMPERATURES[0], TEMPERATURES[2]
"""Temperatures between which the effect of warmth is judged, as in their discussion of T = 1 and 3."""
HARD, SMOOTHED = SMOOTHINGS

REPRODUCES = "Chandrasegaran et al. 2022"
DATA = DATA_OF_FIGURES
MEASURES = (
    Measure("accuracy_lost", "accuracy lost", "points", 2),
    Measure("chosen_temperature", "chosen temperature", decimals=2),
)

_SOURCE = "Chandrasegaran 2022"
_TEACHERS = {"ImageNet": (0.76132, 0.76200), "CUB": (0.81584, 0.82068)}
_STUDENTS = {
    ("ResNet-18", "ImageNet"): ((0.71488, 0.71666), (0.71360, 0.68860), (0.69674, 0.67752), (0.66194, 0.64362)),
    ("ResNet-18", "CUB"): ((0.80169, 0.80946), (0.80808, 0.80428), (0.80785, 0.78196), (0.73611, 0.67161)),
    ("ResNet-50", "ImageNet"): ((0.76328, 0.76896), (0.76180, 0.76110), (0.75488, 0.75790), (0.74278, 0.74566)),
    ("ResNet-50", "CUB"): ((0.82902, 0.83742), (0.82534, 0.83379), (0.82091, 0.82142), (0.79784, 0.77206)),
    ("MobileNetV2", "CUB"): ((0.81144, 0.81731), (0.81895, 0.80609), (0.81257, 0.78961), (0.75441, 0.70435)),
}
"""Top-1 at each temperature, without and with smoothing of the teacher, a ResNet-50."""
_OURS = {"ResNet-18": "narrow", "ResNet-50": "wide"}
"""Their student → the kind of ours that stands for it."""
_BLEU_OF_TEACHERS = {"English-German": (0.26461, 0.26750), "English-Russian": (0.16718, 0.16976)}
_BLEU = {
    "English-German": ((0.24914, 0.25085), (0.23103, 0.23421), (0.21999, 0.22076), (0.06564, 0.06461)),
    "English-Russian": ((0.16140, 0.16197), (0.14977, 0.15100), (0.13826, 0.14106), (0.03605, 0.03590)),
}
"""BLEU of students at each temperature, without and with smoothing of the teacher."""


def _published() -> Iterator[Published]:
    """Yield their tables, the rows of one condition of ours side by side."""
    for data, values in _TEACHERS.items():
        for smoothing, value in zip(SMOOTHINGS, values, strict=True):
            source = f"{_SOURCE}: ResNet-50 on {data}, teacher ε={smoothing:g}"
            yield Published(source, value, None, teacher_of(smoothing), "accuracy")
    for (net, data), rows in _STUDENTS.items():
        for temperature, row in zip(TEMPERATURES, rows, strict=True):
            for smoothing, value in zip(SMOOTHINGS, row, strict=True):
                source = f"{_SOURCE}: {net} on {data}, {of_theirs(smoothing, temperature)}"
                kind = _OURS.get(net)
                ours = (student_of(kind, smoothing, temperature), "accuracy") if kind else (None, None)
                yield Published(source, value, None, *ours)
    for pair, rows in _BLEU.items():
        for smoothing, value in zip(SMOOTHINGS, _BLEU_OF_TEACHERS[pair], strict=True):
            yield Published(f"{_SOURCE}: BLEU, {pair}, teacher ε={smoothing:g}", value)
        for temperature, row in zip(TEMPERATURES, rows, strict=True):
            for smoothing, value in zip(SMOOTHINGS, row, strict=True):
                yield Published(f"{_SOURCE}: BLEU, {pair}, {of_theirs(smoothing, temperature)}", value)


def _change(kind: str, smoothing: float) -> str:
    """Name what warmth costs; without a T of its own, or it would be drawn as a student."""
    return f"{kind} students of ε={smoothing:g}, from T of {LOW:g} to {HIGHER:g}"


def _best(kind: str, smoothing: float) -> str:
    """Name the student at the temperature that held-out images choose."""
    return f"{kind} student of ε={smoothing:g}, best T"


def _against_hard(temperatures: Sequence[float], kinds: Sequence[str]) -> dict[tuple[str, float], tuple[str, str]]:
    """Pair students of the smoothed teacher with students of the hard one."""
    return {
        (kind, at): (student_of(kind, SMOOTHED, at), student_of(kind, HARD, at))
        for at, kind in product(temperatures, kinds)
    }


_CLAIMED = "T={1:g}: a {0} student of the smoothed teacher is"
# fmt: off
CLAIMS = [
    *TEACHER_GAINS,
    *claims("{0}-T{1:g}", f"{_CLAIMED} more accurate than one of the hard teacher", "accuracy",
            _against_hard([LOW], KINDS), "higher"),
    *claims("{0}-T{1:g}", f"{_CLAIMED} less accurate than one of the hard teacher", "accuracy",
            _against_hard(TEMPERATURES[1:], ["narrow"]), "lower"),
    *claims("warmth-{}",
            f"raising T from {LOW:g} to {HIGHER:g} makes a {{}} student of the smoothed teacher less accurate",
            "accuracy",
            {kind: (student_of(kind, SMOOTHED, HIGHER), student_of(kind, SMOOTHED, LOW)) for kind in KINDS},
            "lower"),
    *claims("warmth-more-{}",
            f"raising T from {LOW:g} to {HIGHER:g} costs a {{}} student more when its teacher was smoothed",
            "accuracy_lost", {kind: (_change(kind, SMOOTHED), _change(kind, HARD)) for kind in KINDS}, "higher"),
    *claims("rule-{}",
            f"a {{}} student of the smoothed teacher at T={LOW:g} beats one of the hard teacher at its best T",
            "accuracy", {kind: (student_of(kind, SMOOTHED, LOW), _best(kind, HARD)) for kind in KINDS}, "higher"),
]
# fmt: on
PAPER = list(_published())


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    return runs_at(scale, data, TEMPERATURES, of_labels_too=False)


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return what warmth costs each teacher's students, and the student of each at its best temperature.

    `accuracy_lost` is the accuracy at T=1 less that at T=3, of one seed. The best temperature is, seed by seed,
    that of the highest `held_out_accuracy`, the lower one of two alike; its student's `accuracy` on the test set is
    shown, and which it was (`chosen_temperature`). A student that diverged is not chosen.
    """
    values: dict[Label, dict[str, float]] = {}
    for kind in KINDS:
        for smoothing in SMOOTHINGS:
            low, high = (_by_seed(table, kind, smoothing, at, "accuracy") for at in (LOW, HIGHER))
            for seed in sorted(low.keys() & high.keys()):
                values[Label(_change(kind, smoothing), seed)] = {"accuracy_lost": low[seed] - high[seed]}
        for smoothing in SMOOTHINGS:
            for seed, temperature in _chosen(table, kind, smoothing).items():
                accuracy = _by_seed(table, kind, smoothing, temperature, "accuracy")[seed]
                best = {"accuracy": accuracy, "chosen_temperature": temperature}
                values[Label(_best(kind, smoothing), seed)] = best
    return values


def _chosen(table: Table, kind: str, smoothing: float) -> dict[int, float]:
    """Map each seed to the temperature whose student is the most accurate on held-out images."""
    held_out = {at: _by_seed(table, kind, smoothing, at, "held_out_accuracy") for at in TEMPERATURES}
    seeds = sorted({seed for values in held_out.values() for seed in values})
    return {
        seed: max((at for at in TEMPERATURES if seed in held_out[at]), key=lambda at: held_out[at][seed])
        for seed in seeds
    }


def _by_seed(table: Table, kind: str, smoothing: float, temperature: float, measure: str) -> dict[int, float]:
    return table.by_seed(student_of(kind, smoothing, temperature), measure)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the accuracy of narrow and of wide students against temperature, beside their teachers."""
    figure = drawing.new_figure(
        4.0,
        "Test accuracy of students against the temperature of their soft targets: means over seeds with 95 % "
        "intervals. Dashed: the teachers, with their intervals as bands. The narrow student stands for the paper's "
        "ResNet-18, the wide one, of the teacher's kind, for its ResNet-50.",
    )
    for axes, kind in zip(figure.subplots(1, len(KINDS), sharey=True), KINDS, strict=True):
        _panel(axes, table, kind)
        drawing.heading(axes, f"{kind} students")
    figure.axes[0].set_ylabel("test accuracy, %")
    drawing.legend_below(figure)
    return {"accuracy_by_temperature": figure}


def _panel(axes: Axes, table: Table, kind: str) -> None:
    place = {student_of(kind, smoothing, at): at for smoothing in SMOOTHINGS for at in TEMPERATURES}
    drawing.lines(axes, table, "accuracy", place.get, lambda at, side: at * (1 + 0.08 * side), 100)
    drawing.horizontal(axes, table, map(teacher_of, SMOOTHINGS), "accuracy", 100, "--")
    drawing.temperatures(axes, TEMPERATURES)
    axes.set(xlim=(TEMPERATURES[0] / 1.4, TEMPERATURES[-1] * 1.4), xlabel="temperature")
    drawing.open_frame(axes)
