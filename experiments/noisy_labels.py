"""Wrong labels: what hard, smoothed and distilled networks make of them, and how many they learn by heart.

Three statements about training on labels of which some are wrong, at random, each asked of accuracy on the test
set, whose labels are right, and of memorisation: the share of the wrongly labelled training images for which the
network answers the wrong label.

- Lukasik, Bhojanapalli, Menon & Kumar 2020, "Does label smoothing mitigate label noise?": though smoothing is like
  adding symmetric noise, it is competitive with loss correction on noisy labels. Theirs is symmetric noise of 20 %
  (drawn among all classes, so that 18 % are wrong on CIFAR-10), on CIFAR-10, CIFAR-100 and ImageNet, with
  ResNet-32, ResNet-56 and ResNet-v2-50. Claimed here: smoothing raises test accuracy.
- Arpit et al. 2017, "A closer look at memorization in deep networks": well-tuned explicit regularisation, such as
  dropout, makes a network fit noise less without harm to generalisation on real data. Whether smoothing is such a
  regulariser is our question. Claimed here: it lowers memorisation.
- Das & Sanghavi 2023, "Understanding self-distillation in the presence of label noise": there is a range of label
  noise in which a student is more accurate than its teacher of the same architecture (derived for logistic
  regression of two classes). Claimed here: it is, and it memorises less.

Per seed and kind of noise (symmetric: any other class; pair: the next one; Han et al. 2018): networks of hard
labels and of labels smoothed by ε; and students of the hard network, of its architecture, on its images, with
initial weights of their own, from soft targets alone at temperature T. All they know of the wrong labels came with
the soft targets. On clean labels there is no claim; they show what each method costs where there is nothing to
mend. Which labels are wrong is the same for all methods and seeds, and those at 20 % are part of those at 40 %.
Held-out labels are wrong too, as they would be for a user; nothing is selected by them. Accuracy on held-out images
with their right labels is measured beside.

What departs from the papers, and why: at `quick`, a small convolutional network on 5,000 images of Fashion-MNIST
for 20 epochs, so that hard labels are learned by heart in a short time, wrong ones too. No image is augmented, at
any scale: teacher and student see the same pixels. Rates are shares of labels that are wrong, at 20 and 40 %. Not
asked: whether a smoothed teacher is the better one on wrong labels, which Lukasik et al. found too; loss
correction; and stopping early. At `smoke` there are 40 % alone and one seed, and no verdict.

Cost at `quick` on two CPU cores: 75 networks, 80 minutes while other work shared the cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from distill.config import AugmentConfig, CacheConfig, MemorisationProbe, ScheduleConfig, StudentConfig
from distill.metrics.verdict import interval
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import drawing
from experiments.base import DATA_OF_FIGURES, always, setting_of_figures
from experiments.conditions import labelled, smoothed
from experiments.drawing import Axes, Figure

DATA = DATA_OF_FIGURES
NOISE = (("symmetric", 0.0), ("symmetric", 0.2), ("symmetric", 0.4), ("pair", 0.2), ("pair", 0.4))
SMOOTHINGS = (0.0, 0.1, 0.3)
TEMPERATURES = (1.0, 4.0)
_OWN = 1000
_SEEDS = 3


def _noise(kind: str, rate: float) -> str:
    return f"{rate:.0%} {kind}" if rate else "clean"


def _of_labels(smoothing: float, where: str) -> str:
    return f"teacher ε={smoothing:g}, {where}"


def _distilled(temperature: float, where: str) -> str:
    return f"student, T={temperature:g}, {where}"


# fmt: off
PAPER = [
    Published("Lukasik 2020, abstract: smoothing on noisy labels", "competitive with loss correction", None,
              _of_labels(0.1, _noise("symmetric", 0.2)), "accuracy"),
    Published("Arpit 2017, abstract: explicit regularisation", "fits noise less, generalises as well"),
    Published("Das 2023, abstract: self-distillation on noisy labels", "can be more accurate than its teacher"),
]
# fmt: on


def _claims() -> Iterator[Claim]:
    """Yield the claims about each kind and rate of noise."""
    for where in (_noise(kind, rate) for kind, rate in NOISE if rate):
        hard, name = _of_labels(0, where), where.replace(" ", "-")
        for smoothing in SMOOTHINGS[1:]:
            made, by = _of_labels(smoothing, where), f"ls{smoothing:g}"
            statement = f"{where}: smoothing the labels (ε={smoothing:g}) raises test accuracy"
            yield Claim(f"accuracy-{by}-{name}", statement, "accuracy", made, hard, "higher")
            statement = f"{where}: smoothing (ε={smoothing:g}) lowers the share of wrong labels learned by heart"
            yield Claim(f"memorised-{by}-{name}", statement, "memorised", made, hard, "lower")
        for temperature in TEMPERATURES:
            made, by = _distilled(temperature, where), f"T{temperature:g}"
            statement = f"{where}: a student (T={temperature:g}) is more accurate than its hard teacher"
            yield Claim(f"accuracy-{by}-{name}", statement, "accuracy", made, hard, "higher")
            statement = f"{where}: a student (T={temperature:g}) answers fewer of the wrong labels than its teacher"
            yield Claim(f"memorised-{by}-{name}", statement, "memorised", made, hard, "lower")


CLAIMS = list(_claims())


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    # What is learned by heart is the image as it is.
    teacher = chosen.teacher.replace(augment=AugmentConfig())
    if scale == "quick" and teacher.data.limit:
        # Few images, so that hard labels are learned by heart in a short time, wrong ones too.
        half = teacher.data.replace(limit=teacher.data.limit // 2)
        teacher = teacher.replace(data=half, schedule=ScheduleConfig(epochs=20))
    noise = [cell for cell in NOISE if scale != "smoke" or cell[1] == 0.4]
    built: Runs = {}
    for seed in range(min(chosen.seeds, _SEEDS)):
        for kind, rate in noise:
            images = teacher.data.replace(label_noise=rate, noise=kind if rate else "symmetric")
            where = _noise(kind, rate)
            hard = teacher.replace(data=images, seed=seed)
            taught = smoothed(hard, SMOOTHINGS).items()
            same = {name: getattr(hard, name) for name in ("data", "model", "optim", "schedule", "precision")}
            # Its initial weights are not its teacher's.
            student = StudentConfig(**same, cache=CacheConfig(teacher=hard, transfer_set=images), seed=seed + _OWN)
            students = {_distilled(at, where): student.with_loss(temperature=at) for at in TEMPERATURES}
            built |= labelled({_of_labels(smoothing, where): each for smoothing, each in taught} | students, seed)
    return built


probes = always(MemorisationProbe())


class _Method(NamedTuple):
    """The look of networks of one kind."""

    name: str
    condition: str
    """Condition, with a place for the noise."""
    color: str
    marker: str
    style: str


_METHODS = (
    _Method("hard labels", _of_labels(0, "{}"), drawing.HARD, "o", "-"),
    _Method("smoothed, ε=0.1", _of_labels(0.1, "{}"), drawing.SMOOTHED[0], "s", "-"),
    _Method("smoothed, ε=0.3", _of_labels(0.3, "{}"), drawing.SMOOTHED[1], "^", "-"),
    _Method("distilled, T=1", _distilled(1, "{}"), drawing.SMOOTHED[2], "D", "--"),
    _Method("distilled, T=4", _distilled(4, "{}"), "#000000", "v", "--"),
)
_KINDS = {"symmetric": "wrong: any other class", "pair": "wrong: the next class"}
_SHIFT = 1.0
"""Percentage points by which the points of a rate stand apart, or they would hide each other's intervals."""


class _Row(NamedTuple):
    """One row of panels: a measure of each method, or its difference to hard labels, seed by seed."""

    measure: str
    unit: str
    above_hard: bool = False


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    return {
        "accuracy": _against_noise(
            table,
            5.6,
            "Accuracy on the test set, whose labels are right, against the share of wrong training labels; below, "
            "what each method has above hard labels, seed by seed. Means over seeds with 95 % intervals. Distilled "
            "networks learn from the soft targets of the network of hard labels alone.",
            _Row("accuracy", "test accuracy, %"),
            _Row("accuracy", "above hard labels, points", above_hard=True),
        ),
        "memorisation": _against_noise(
            table,
            3.9,
            "How many of the wrong labels are learned by heart: of the training images whose label is wrong, the "
            "share for which the network answers that label. Means over seeds with 95 % intervals. Distilled "
            "networks were never shown a label, only the soft targets of the network of hard labels.",
            _Row("memorised", "wrong labels learned by heart, %"),
        ),
    }


def _against_noise(table: Table, height: float, caption: str, *rows: _Row) -> Figure:
    """Draw a column of panels per kind of noise, and a line per method; clean labels belong to both kinds."""
    figure = drawing.new_figure(height, caption)
    panels = figure.subplots(len(rows), len(_KINDS), sharex="col", sharey="row", squeeze=False)
    for row, beside in zip(rows, panels, strict=True):
        for axes, kind in zip(beside, _KINDS, strict=True):
            _lines(axes, table, row, kind)
            drawing.open_frame(axes)
            if row.above_hard:
                axes.axhline(0, color=drawing.HARD, linewidth=1.2)
        beside[0].set_ylabel(row.unit)
    for column, (kind, title) in zip(panels.T, _KINDS.items(), strict=True):
        drawing.heading(column[0], title)
        places = [100 * rate for rate in _rates(kind) if any(_at(table, rows[0], kind, rate, m) for m in _METHODS)]
        if places:
            column[-1].set_xticks(places, [f"{place:g}" for place in places])
            column[-1].set(xlim=(places[0] - 6, places[-1] + 6), xlabel="wrong training labels, %")
        else:
            for axes in column:
                drawing.nothing(axes)
    drawing.legend_below(figure)
    return figure


def _lines(axes: Axes, table: Table, row: _Row, kind: str) -> None:
    for index, method in enumerate(_METHODS):
        if row.above_hard and method is _METHODS[0]:
            continue
        aside = _SHIFT * (index - (len(_METHODS) - 1) / 2)
        values = {100 * rate + aside: _at(table, row, kind, rate, method) for rate in _rates(kind)}
        means = {place: interval(each) for place, each in values.items() if each}
        style = {"color": method.color, "marker": method.marker, "linestyle": method.style, **drawing.BARS}
        drawing.points(axes, means, 100, **style, label=method.name)


def _rates(kind: str) -> list[float]:
    return [0.0, *(rate for each, rate in NOISE if each == kind and rate)]


def _at(table: Table, row: _Row, kind: str, rate: float, method: _Method) -> list[float]:
    """Return the values of a method's seeds; above hard labels, of the seeds that both have."""
    where = _noise(kind, rate)
    values = table.by_seed(method.condition.format(where), row.measure)
    if not row.above_hard:
        return list(values.values())
    hard = table.by_seed(_of_labels(SMOOTHINGS[0], where), row.measure)
    return [value - hard[seed] for seed, value in values.items() if seed in hard]
