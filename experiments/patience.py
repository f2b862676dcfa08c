"""How many stored views does a student need: one for ever, a few, or a new one in every epoch?

Reproduces the comparison of fixed and consistent teaching by Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent" (Table 3), and adds what lies between: a cache of V views per image that the
student reads in turn. A view is a random crop after padding, and a flip where that leaves the class alone;
teacher and student always see the same pixels.

Per seed: teachers without and with label smoothing, trained on the same kind of views; one cache per teacher with
as many views as the student has epochs; students that differ in nothing but how many of those views they read,
and one that sees every image as it is (which need not lose: test images are not shifted either). All train for
the same number of epochs, on soft targets alone. T = 1, as Beyer et al. use on ImageNet: the loss is then the KL
divergence that the figure shows on the test set, so what a student fits and what it is judged by are one quantity.

Left out: mixup (their "function matching"), a long schedule (theirs has up to 9,600 epochs), and whether smoothing
changes the gain of consistency, which is a difference of differences.

Cost at `quick` on two CPU cores: digits (10 seeds, 140 nets) 2 minutes, fashion-mnist (3 seeds, 42 nets, caches of
32 views) 23 minutes, of which 9 go into the caches. At `smoke` there is one seed, and no verdict.
Command: `distill reproduce patience --data fashion-mnist`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import log2
from typing import Any

from distill.config import CacheConfig, LossConfig, ScheduleConfig
from distill.reports.experiment import Published, Runs, Scale, Table
from experiments import drawing
from experiments.base import DIGITS, mlp, setting, view_program
from experiments.conditions import claims, labelled, smoothed, teacher_of

SMOOTHINGS = (0.0, 0.1)
VIEWS = (1, 2, 4, 16)
TEMPERATURE = 1.0
STUDENT = mlp(256)
"""Student at every scale but paper: a narrower one loses more to shifts, whatever the number of views."""

DATA = DIGITS
_TABLE = "Beyer 2022, Table 3: ImageNet top-1 of ResNet-50"
PAPER = [
    Published(f"{_TABLE}, fixed teacher, 30 epochs", 0.7375),
    Published(f"{_TABLE}, consistent teacher, 30 epochs", 0.7495),
    Published(f"{_TABLE}, fixed teacher, 300 epochs", 0.7776),
    Published(f"{_TABLE}, consistent teacher, 300 epochs", 0.8008),
    Published(f"{_TABLE}, fixed teacher, 9600 epochs", 0.7695),
    Published(f"{_TABLE}, consistent teacher, 9600 epochs", 0.8176),
    Published("Beyer 2022: ImageNet top-1 of the teacher, BiT-R152x2", 0.830),
]


def _stored(smoothing: float, views: int) -> str:
    return f"student of ε={smoothing:g}, V={views}"


def _fresh(smoothing: float) -> str:
    return f"student of ε={smoothing:g}, a view per epoch"


def _plain(smoothing: float) -> str:
    return f"student of ε={smoothing:g}, images as they are"


def _count(views: int) -> str:
    return "one fixed view" if views == 1 else f"{views} stored views"


_APART = log2(VIEWS[-1]) + 2
"""Place of a view per epoch on the axis of powers of two: its number of views differs between scales."""
_PLACES = {_stored(smoothing, views): log2(views) for smoothing in SMOOTHINGS for views in VIEWS}
_PLACES |= {_fresh(smoothing): _APART for smoothing in SMOOTHINGS}

# fmt: off
CLAIMS = [
    *claims("accuracy-{1}-ls{0:g}", "ε={0:g}: a view per epoch teaches more accurate students than {2}", "accuracy",
            {(smoothing, views, _count(views)): (_fresh(smoothing), _stored(smoothing, views))
             for smoothing, views in product(SMOOTHINGS, VIEWS)}, "higher"),
    *claims("accuracy-plain-ls{:g}",
            "ε={:g}: a view per epoch teaches more accurate students than images as they are", "accuracy",
            {smoothing: (_fresh(smoothing), _plain(smoothing)) for smoothing in SMOOTHINGS}, "higher"),
    *claims("kl-ls{:g}", "ε={:g}: on test images, students of one fixed view are further from their teacher", "kl",
            {smoothing: (_stored(smoothing, 1), _fresh(smoothing)) for smoothing in SMOOTHINGS}, "higher"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting(data, scale)
    epochs, seeds = _lengths(scale, data)
    views = view_program(data)
    schedule = ScheduleConfig(epochs=epochs, batch_size=chosen.student.schedule.batch_size)
    common: dict[str, Any] = {"schedule": schedule, "loss": LossConfig(alpha=1, temperature=TEMPERATURE)}
    if scale != "paper":
        common["model"] = STUDENT
    built: Runs = {}
    for seed in range(seeds):
        # A teacher that never saw shifted images is wrong about them: its views are those of the cache.
        for smoothing, teacher in smoothed(chosen.teacher.replace(seed=seed, augment=views), SMOOTHINGS).items():
            plain = CacheConfig(teacher=teacher, transfer_set=teacher.data)
            student = chosen.student.replace(**common, seed=seed, cache=plain.replace(augment=views, views=epochs))
            of_stored = {_stored(smoothing, count): student.replace(views=count) for count in VIEWS}
            named = {teacher_of(smoothing): teacher, _plain(smoothing): student.replace(cache=plain)}
            built |= labelled(named | of_stored | {_fresh(smoothing): student}, seed)
    return built


def _lengths(scale: Scale, data: str) -> tuple[int, int]:
    """Return the epochs of a student, which are the views of its cache, and the number of seeds."""
    if scale == "smoke":
        return max(VIEWS) + 1, 1
    if scale == "paper":
        return 300, 5  # one of the lengths in their Table 3
    return (64, 10) if data == "digits" else (32, 3)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw accuracy of students, and how far they are from their teacher, against the number of stored views."""
    figure = drawing.new_figure(
        3.9,
        "Students of V stored views per image, read in turn, at equal epochs: test accuracy, and KL divergence "
        "from the teacher's distribution to the student's on the test images, at T = 1. Means over seeds with "
        "95 % intervals. Rightmost: a new view in every epoch. Dotted, with intervals as bands: students that "
        "see every image as it is.",
    )
    panels = (("accuracy", "test accuracy, %", 100.0), ("kl", "KL to the teacher on test", 1.0))
    for axes, (measure, title, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        drawing.lines(axes, table, measure, _PLACES.get, lambda at, side: at + 0.08 * side, scale)
        drawing.horizontal(axes, table, map(_plain, SMOOTHINGS), measure, scale, ":")
        drawing.heading(axes, title)
        axes.set_xticks([*map(log2, VIEWS), _APART], [*map(str, VIEWS), "one per\nepoch"])
        axes.set(xlim=(-0.5, _APART + 0.8), xlabel="stored views per image")
        drawing.open_frame(axes)
    drawing.legend_below(figure)
    return {"stored_views": figure}
