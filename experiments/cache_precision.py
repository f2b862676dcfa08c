"""What is lost when a cache stores less: float16 for float32, or only the top k logits?

Answers a question that published caches leave open: TinyViT and FKD store the top k probabilities of a teacher and
spread the rest over the other classes, which is exact in mass at T = 1 and nowhere else. How far is the stored
distribution from the exact one, and does a student notice, in its accuracy and in the inter-class structure of
its logits?

Per seed: teachers without and with label smoothing; six caches each of the same images (float32, float16, and
float16 with the top 1, 3, 5 and all K logits plus the log-sum-exp of the missing ones); students that differ in
nothing but the cache, at T = 1 and T = 4, from soft targets alone. The total variation distance (TV) between
stored and exact distribution is measured when a cache is written. A control: all K logits are what float16
stores, in another form. A smoothed teacher, whose wrong classes are nearly alike, should lose less of its
distribution to a tail of equal logits.

The data set must have at least 5 classes; "all K" needs their number, so it is left out for data that is not
built in.

Cost at `quick` on two CPU cores: digits (10 seeds, 260 nets) 1 minute, fashion-mnist (3 seeds, 78 nets) 12 minutes,
less where dark_knowledge was run before: its teachers, dense caches and their students are the same. At `smoke`
there is one seed, and no verdict. Command: `distill reproduce cache_precision --data fashion-mnist`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

from distill.config import CacheConfig, TeacherConfig
from distill.metrics.verdict import interval
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import drawing
from experiments.base import DIGITS, num_classes, setting
from experiments.conditions import distilled, labelled, smoothed, student_of, teacher_of
from experiments.drawing import Axes

SMOOTHINGS = (0.0, 0.1)
TEMPERATURES = (1.0, 4.0)
KEPT = (1, 3, 5)
FORMS = (*(f"top-{k}" for k in KEPT), "top-K", "float16", "float32")
"""Forms in which a view is stored, fewest logits first."""

DATA = DIGITS
PAPER = [
    Published("TinyViT 2022, code: bytes per view (4-byte seed, k ids and k float16 probabilities)", "4 + 4k"),
    Published("TinyViT 2022, README: cache of ImageNet-1k, 300 epochs", "16 GB"),
    Published("TinyViT 2022, README: cache of ImageNet-22k, 90 epochs", "481 GB"),
    Published("FKD 2022, code: stored per view", "4 coordinates, flip, top-5 ids and probabilities"),
]


def _student(smoothing: float, form: str, temperature: float) -> str:
    return f"{student_of(smoothing, temperature)}, {form}"


def _claims(smoothing: float) -> Iterator[Claim]:
    """Claim that storing less does harm; "undecided" says that no harm is seen."""

    def lower(measure: str, words: str, temperature: float, form: str, versus: str) -> Claim:
        name = f"{measure.removeprefix('interclass_').replace('_', '-')}-{form}-T{temperature:g}-ls{smoothing:g}"
        statement = f"ε={smoothing:g}, T={temperature:g}: {form} {words} than {versus}"
        condition, other = (_student(smoothing, stored, temperature) for stored in (form, versus))
        return Claim(name, statement, measure, condition, other, "lower")

    less_accurate = "teaches less accurate students"
    yield lower("accuracy", less_accurate, 4, "float16", "float32")
    yield lower("accuracy", less_accurate, 4, "top-K", "float16")
    yield lower("accuracy", less_accurate, 1, f"top-{KEPT[0]}", "float16")
    for k in KEPT:
        yield lower("accuracy", less_accurate, 4, f"top-{k}", "float16")
    less_variance = "leaves students less inter-class variance, relative to the squared gap,"
    yield lower("interclass_variance_relative", less_variance, 4, f"top-{KEPT[-1]}", "float16")


CLAIMS = [claim for smoothing in SMOOTHINGS for claim in _claims(smoothing)]


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting(data, scale)
    built: Runs = {}
    most = 3 if scale == "quick" and data != "digits" else chosen.seeds
    for seed in range(min(most, chosen.seeds)):
        student = chosen.student.replace(seed=seed)
        for smoothing, teacher in smoothed(chosen.teacher.replace(seed=seed), SMOOTHINGS).items():
            built |= labelled({teacher_of(smoothing): teacher}, seed)
            stored = _caches(teacher, num_classes(data))
            name = partial(_student, smoothing)
            for temperature in TEMPERATURES:
                built |= labelled(distilled(student, stored, [temperature], name), seed)
    return built


def _caches(teacher: TeacherConfig, classes: int | None) -> dict[str, CacheConfig]:
    """Map each form to a cache of one teacher, in the order of `FORMS`."""
    dense = CacheConfig(teacher=teacher, transfer_set=teacher.data)
    stored = {f"top-{k}": dense.replace(top_k=k) for k in KEPT}
    if classes is not None:
        stored["top-K"] = dense.replace(top_k=classes)
    return stored | {"float16": dense, "float32": dense.replace(dtype="float32")}


def draw(table: Table) -> Mapping[str, Any]:
    """Draw accuracy of students and inter-class variance of their logits, against what their cache stores."""
    figure = drawing.new_figure(
        5.6,
        "Students of caches that keep fewer logits from right to left, at two temperatures: test accuracy, and "
        "inter-class variance of the student's logits relative to the squared gap. Below each form, the bytes of "
        "one view. Means over seeds with 95 % intervals.",
    )
    panels = (("accuracy", "test accuracy, %"), ("interclass_variance_relative", "variance / gap², %"))
    ticks = [_with_bytes(form, table) for form in FORMS]
    for row, temperature in zip(figure.subplots(2, 2, sharex=True), TEMPERATURES, strict=True):
        for axes, (measure, title) in zip(row, panels, strict=True):
            _panel(axes, table, measure, temperature)
            drawing.heading(axes, f"T={temperature:g}: {title}")
            axes.set_xticks(range(len(FORMS)), ticks, fontsize=8)
    drawing.legend_below(figure)
    return {"stored_form": figure}


def _panel(axes: Axes, table: Table, measure: str, temperature: float) -> None:
    """Draw the students of both teachers at one temperature, in %."""
    every = product(SMOOTHINGS, enumerate(FORMS))
    places = {_student(smoothing, form, temperature): float(place) for smoothing, (place, form) in every}
    drawing.lines(axes, table, measure, places.get, lambda at, side: at + 0.1 * side, 100)
    drawing.open_frame(axes)


def _with_bytes(form: str, table: Table) -> str:
    """Name a form and, if it was measured, the bytes of one view."""
    for smoothing in SMOOTHINGS:
        if sizes := table.by_seed(_student(smoothing, form, TEMPERATURES[0]), "cache_bytes_per_view"):
            return f"{form}\n{interval(sizes.values()).mean:g} B"
    return form
