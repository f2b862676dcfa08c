"""Is a better teacher a better teacher? Accuracy of teachers and students against the equivalent smoothing γ.

Reproduces Figure 5 of Müller, Kornblith & Hinton 2019 (section 4): label smoothing makes the teacher more accurate,
and yet its students are no better than students whose labels are smoothed directly, while students of the teacher
of hard labels are better than both. All students share one training procedure and differ in nothing but their
targets; γ is the mass that these put on the incorrect classes, over the training set, times K/(K-1): ε for smoothed
labels, and something that T raises for soft targets. So all can be drawn over one axis.

Per seed: teachers of labels smoothed by ε; students of labels smoothed by ε; students of the soft targets of the
teacher of hard labels at temperature T; students of the teachers of smoothed labels at T = 1. Soft targets alone
(β = 1 in the paper, `alpha` here); T divides the teacher's logits only, and no T² multiplies the loss (their
appendix A.1).

Two of its statements leave a choice. "All students of the hard teacher beat the baseline with label smoothing":
they are compared with ε = 0.15, the mildest of the smoothed baselines, since γ of a temperature is not known
beforehand. "No better, and sometimes worse" than direct smoothing: the claims here are "worse", so an undecided one
agrees with the paper's "no better".

What departs from the paper: accuracy is that on the test set, on which nothing was selected; theirs is that on
10,000 images held out from the training set. At `quick` teacher and student are a small convolutional network and
an MLP on 10,000 images of Fashion-MNIST, which the teacher fits, without augmentation. At `short` and `paper`
(ResNet-56 and AlexNet on CIFAR-10) every student, that of labels included, sees the same views, those of the
cache (see `VIEWS`), and teacher and student are trained on the same program of views. At `short` there are fewer
points (claims about the others have no verdict) and far shorter schedules. Further departures of `paper`:
`experiments/base.py`.

Cost at `quick` on two CPU cores: 120 nets, about 23 minutes. At `short`, 4.5e16 floating-point operations by count:
7.5 minutes if a GPU sustains 1e14 a second, which is an assumption; small networks need jobs side by side for it
(`--jobs 4`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from distill.config import CacheConfig, TeacherConfig
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import base, drawing
from experiments.base import DATA_OF_FIGURES, Setting, is_published, setting_of_figures, view_program
from experiments.conditions import OF_LABELS, claims, distilled, labelled, named, smoothed, student_of, teacher_of
from experiments.drawing import Axes

SMOOTHINGS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0)
VIEWS: dict[Scale, int] = {"short": 16, "paper": 64}
"""Stored views per image where teachers see augmented ones, read in turn by every student. 64 of 40,000 images are
51 MB a teacher, and their forward passes the work of about 21 epochs of training."""

REPRODUCES = "Figure 5"
DATA = DATA_OF_FIGURES


def _of_labels(smoothing: float) -> str:
    return f"{OF_LABELS}, ε={smoothing:g}"


HARD, BEST = 0.0, 0.6
"""Smoothing of the teacher of hard labels, and the smoothing up to which the paper's teachers improve."""
MILDEST, STRONGEST = SMOOTHINGS[1], SMOOTHINGS[-1]

_BASELINE = "Müller 2019, Table 2: AlexNet on CIFAR-10"
_DRAWN = [
    *map(teacher_of, SMOOTHINGS),
    *map(_of_labels, SMOOTHINGS[1:]),
    *(student_of(HARD, temperature) for temperature in TEMPERATURES),
    *(student_of(smoothing, 1) for smoothing in SMOOTHINGS[1:]),
]
_REPLICATED = dict(
    [
        *zip(map(teacher_of, SMOOTHINGS), (0.9360, 0.9356, 0.9353, 0.9350, 0.9318, 0.9340), strict=True),
        *zip(map(_of_labels, SMOOTHINGS), (0.8537, 0.8635, 0.8609, 0.8673, 0.8670, 0.8290), strict=True),
        *zip(
            (student_of(HARD, temperature) for temperature in TEMPERATURES if temperature != 3),
            (0.8510, 0.8548, 0.8594, 0.8772, 0.8663, 0.8538),
            strict=True,
        ),
        *zip(
            (student_of(smoothing, 1) for smoothing in SMOOTHINGS[1:]),
            (0.8534, 0.8538, 0.8545, 0.8559, 0.8252),
            strict=True,
        ),
    ]
)
"""Condition → accuracy in the replication's figure, on CIFAR-10: ResNet-56 as teacher, AlexNet as student."""
REPLICATION = f"{base.REPLICATION} Its accuracies are read off its Figure 5 (CIFAR-10)."
_PLAIN = _of_labels(HARD)
PAPER = [
    Published(f"{_BASELINE}, ε=0", 0.868, 0.002, _PLAIN, "accuracy", _REPLICATED[_PLAIN]),
    Published(f"{_BASELINE}, ε=0.1", 0.867, 0.003),
    *(
        Published(f"Müller 2019, Figure 5: {drawn}", None, None, drawn, "accuracy", _REPLICATED.get(drawn))
        for drawn in _DRAWN
    ),
]

# fmt: off
CLAIMS = [
    Claim("teacher", f"smoothing makes the teacher more accurate: ε={BEST:g} against 0", "accuracy",
          teacher_of(BEST), teacher_of(HARD), "higher"),
    Claim("baseline", f"smoothing makes a student of labels (slightly) less accurate: ε={STRONGEST:g} against 0",
          "accuracy", _of_labels(STRONGEST), _of_labels(HARD), "lower"),
    Claim("replication-teacher", f"the replication, against the paper: no gain of the teacher: ε={MILDEST:g} less "
          "accurate than 0", "accuracy", teacher_of(MILDEST), teacher_of(HARD), "lower"),
    Claim("replication-baseline", f"the replication, against the paper: smoothing (ε={MILDEST:g}) makes a student "
          "of labels more accurate", "accuracy", _of_labels(MILDEST), _of_labels(HARD), "higher"),
    *claims("distilled-T{:g}",
            f"T={{:g}}: a student of the hard teacher beats one of smoothed labels (ε={MILDEST:g})", "accuracy",
            {temperature: (student_of(HARD, temperature), _of_labels(MILDEST)) for temperature in TEMPERATURES},
            "higher"),
    Claim("better-teacher",
          f"and yet a worse teacher: at T=1 its student (ε={BEST:g}) is less accurate than that of the hard one",
          "accuracy", student_of(BEST, 1), student_of(HARD, 1), "lower"),
    *claims("smoothed-ls{:g}",
            "ε={:g}: a student of the smoothed teacher is less accurate than one of labels so smoothed", "accuracy",
            {smoothing: (student_of(smoothing, 1), _of_labels(smoothing)) for smoothing in SMOOTHINGS[1:]},
            "lower"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    taught, smoothings, temperatures = _points(scale, data)
    built: Runs = {}
    for seed in range(chosen.seeds):
        teachers = smoothed(chosen.teacher.replace(seed=seed), taught)
        stored = {smoothing: _cache(teacher, chosen, scale, data) for smoothing, teacher in teachers.items()}
        student = chosen.student.replace(seed=seed)
        # Where there are views, students of labels read them from a cache too, so that all see the same pixels.
        of_labels = student if stored[0].views == 1 else student.replace(cache=stored[0])
        built |= labelled(named(teachers), seed)
        direct = {_of_labels(smoothing): of_labels.with_loss(smoothing=smoothing) for smoothing in smoothings}
        built |= labelled(direct, seed)
        hard = {0.0: stored.pop(0.0)}
        for caches, at in ((hard, temperatures), (stored, (1.0,))):
            built |= labelled(distilled(student, caches, at, temperature_on="teacher"), seed)
    return built


def _points(scale: Scale, data: str) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Return the smoothings of teachers, the smoothings of students of labels, and the temperatures."""
    if scale == "short" and is_published(data, scale):
        return (HARD, MILDEST, BEST), (HARD, MILDEST, BEST, STRONGEST), (1.0, 2.0, 4.0, 16.0)
    return SMOOTHINGS, SMOOTHINGS, TEMPERATURES


def _cache(teacher: TeacherConfig, chosen: Setting, scale: Scale, data: str) -> CacheConfig:
    """Store the images as they are, or in as many views as students of this scale want."""
    plain = CacheConfig(teacher=teacher, transfer_set=teacher.data)
    if not is_published(data, scale):
        return plain
    views = min(VIEWS[scale], chosen.student.schedule.epochs)
    return plain.replace(augment=view_program(data), views=views)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the four curves: teachers above, students below, over one axis of γ."""
    figure = drawing.new_figure(
        6.2,
        "Test accuracy against the equivalent smoothing γ of the targets, teachers above and students below: means "
        "over seeds, bars from the least to the most accurate seed. Solid: networks of labels smoothed by ε = γ. "
        "Dashed: students of soft targets, those of the teacher of hard labels at the temperatures beside the "
        "points, those of the teachers of smoothed labels at T = 1. Students that stand above each other learned "
        "from as much mass on the incorrect classes.",
    )
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [2, 5]})
    blue, vermilion, green = drawing.HARD, drawing.SMOOTHED[0], drawing.SMOOTHED[1]
    of_smoothed = [student_of(smoothing, 1) for smoothing in SMOOTHINGS[1:]]
    _curve(above, table, map(teacher_of, SMOOTHINGS), vermilion, "s-", "teachers of labels smoothed by ε")
    _curve(below, table, map(_of_labels, SMOOTHINGS), green, "^-", "students of labels smoothed by ε")
    _curve(below, table, of_smoothed, vermilion, "s--", "students of those teachers, T=1")
    hard = [student_of(HARD, temperature) for temperature in TEMPERATURES]
    _curve(below, table, hard, blue, "o--", "students of the teacher of ε=0, at each T")
    for temperature in TEMPERATURES:
        _name_temperature(below, table, temperature, blue)
    for axes, title in ((above, "teachers"), (below, "students")):
        drawing.heading(axes, title)
        axes.set_ylabel("test accuracy, %")
        axes.margins(y=0.12)
        drawing.open_frame(axes)
    below.set_xlabel("equivalent smoothing γ of the targets")
    drawing.legend_below(figure)
    return {"distillation": figure}


def _curve(axes: Axes, table: Table, conditions: Iterable[str], color: str, style: str, label: str) -> None:
    """Draw mean accuracy over mean γ, with bars over all seeds; conditions without a run are left out."""
    points = [point for condition in conditions if (point := _point(table, condition))]
    if points:
        bars = [[point.mean - point.low for point in points], [point.high - point.mean for point in points]]
        gammas, means = [point.gamma for point in points], [point.mean for point in points]
        look: dict[str, Any] = {"markersize": 5, "linewidth": 1.6, "elinewidth": 1.2, "capsize": 2}
        axes.errorbar(gammas, means, bars, color=color, fmt=style, label=label, **look)


def _name_temperature(axes: Axes, table: Table, temperature: float, color: str) -> None:
    """Write T above the point of the hard teacher's students; only the last one says that it is T."""
    if point := _point(table, student_of(HARD, temperature)):
        text, place = f"{temperature:g}", (point.gamma, point.high)
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": color, "fontsize": 8}
        axes.annotate(f"T={text}" if temperature == TEMPERATURES[-1] else text, place, (0, 3), **style)


class _Point(NamedTuple):
    """The means of one condition over its seeds."""

    gamma: float
    low: float
    mean: float
    high: float
    """Accuracy in %."""


def _point(table: Table, condition: str) -> _Point | None:
    """Return the point of a condition; None if there is no run, or no γ."""
    accuracies = [100 * value for value in table.by_seed(condition, "accuracy").values()]
    gammas = table.by_seed(condition, "equivalent_smoothing").values()
    if not accuracies or not gammas:
        return None
    return _Point(fmean(gammas), min(accuracies), fmean(accuracies), max(accuracies))
