"""Does a smoothed teacher forget which image it saw? Mutual information of image and logits over training.

Reproduces Figure 6 of Müller, Kornblith & Hinton 2019. X is the index of one of N training images of two classes,
Y the difference of the logits of these classes for a random view of the image. I(X;Y) is log N when Y tells every
image apart, and log 2 when all that is left is the class. Their prose: tiny at the start, it rises fast, then
slowly falls; with smoothing it falls further, to slightly above log 2. The images of a class have then collapsed to
one point, and a student can learn no more of them than their label.

Per seed: a teacher of hard labels and one of labels smoothed by ε = 0.1. The paper does not say which ε its curve
has; 0.1 is that of its other figures. Weights are kept at the start and after each of 16 equal parts of training,
as in the paper, and each snapshot is measured with the same views of the same images: 5 for the means and one more
to evaluate.

The estimator is not the printed one. That has the same index in the inner and the outer sum, and can never be above
0: here a view is compared with the means of all images (`distill/metrics/mutual_information.py`), and what the
printed one gives is listed beside it. The published replication could not compute the figure from it. The view that
is evaluated is not one of those that made the means; the paper does not say. With so few views the estimate for
perfectly collapsed classes is itself below log 2, and that floor is drawn in: "slightly above log 2" is to be read
against it. Had they evaluated one of the five, collapsed classes would give 0.80, and their number would fit a
total collapse too.

A peak is a maximum of noisy values, and so is larger than what follows even where nothing falls. The claims compare
two fixed stretches instead: "early" is the mean over the first quarter of training, the start left out, and "late"
is that over the last quarter. Both were fixed beforehand, on networks of other seeds and fewer images. Where the
rise takes longer than a quarter this speaks against a fall.

What departs from the paper: at `quick` a small convolutional network and 10,000 images of Fashion-MNIST, twice the
epochs of the other figures so that the shifted and mirrored images are fitted too. The classes are those with the
numbers of the paper's airplane and dog, 0 and 5: T-shirt/top and Sandal. How far the estimate falls depends on the
pair. At `short` and `paper` see `experiments/base.py`.

Cost at `quick` on two CPU cores: 10 nets, about 12 minutes. On MNIST: `--data mnist`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from distill.config import InformationProbe
from distill.reports.experiment import Published, Runs, Saying, Scale, Table
from experiments import base, drawing
from experiments.base import DATA_OF_FIGURES, SNAPSHOTS, on_views, setting_of_figures
from experiments.conditions import HARD, SMOOTHED, between, claims, teachers
from experiments.drawing import Axes, Figure

SMOOTHINGS = (0.0, 0.1)

CLASSES = (0, 5)
"""Airplane and dog, as in the paper; on other data the classes with these numbers."""
DRAWS = 5
VIEW_SEED = 1_000_000
"""No network has this seed, so the views that it is measured with were not drawn for its training."""

REPRODUCES = "Figure 6"
REPLICATION = f"{base.REPLICATION} It could not compute Figure 6; its questions to the authors had no answer."
DATA = DATA_OF_FIGURES
# fmt: off
PAPER = [
    Published("Müller 2019, Figure 6: mutual information of ResNet-56 on CIFAR-10, smoothed, late in training",
              "slightly above log 2 = 0.693", condition=SMOOTHED, measure="information_late",
              replication="not computed"),
    Published("Müller 2019, Figure 6: the formula as it is printed, smoothed, at the end of training",
              "at most 0 (Jensen)", condition=SMOOTHED, measure="information_printed",
              replication="“could not be reproduced using the described formula”"),
    Published("the same, hard targets", "at most 0 (Jensen)", condition=HARD, measure="information_printed"),
    Published("what two collapsed classes would give, with as many views", "log 2 = 0.693 with infinitely many",
              condition=SMOOTHED, measure="information_floor"),
    Published("Müller 2019, Figure 6: the same, hard targets, late in training", None, condition=HARD,
              measure="information_late"),
    Published("Müller 2019, Figure 6: the largest value that there can be, for 600 images", "log 600 = 6.397",
              condition=SMOOTHED, measure="information_log_n"),
]
# fmt: on
_ITSELF = {("hard", HARD): (HARD, HARD), ("smoothed", SMOOTHED): (SMOOTHED, SMOOTHED)}
# fmt: off
CLAIMS = [
    *claims("rise-{0}", "{1}: mutual information is higher early in training than at the start",
            "information_early", _ITSELF, "higher", versus_measure="information_first"),
    *claims("fall-{0}", "{1}: mutual information is lower late in training than early", "information_late", _ITSELF,
            "lower", versus_measure="information_early"),
    *between(SMOOTHED, HARD, ("falls-further", "from early to late, mutual information falls further with "
             "smoothing", "information_drop", "higher"), ("ends-lower", "late in training, mutual information is "
             "lower with smoothing", "information_late", "lower")),
    *claims("not-collapsed-{0}", "{1}: late in training, mutual information is above what collapsed classes would "
            "give", "information_late", _ITSELF, "higher", versus_measure="information_floor"),
]
# fmt: on
ANSWER = [
    Saying(
        "late in training logits tell images apart less with smoothing",
        "late in training logits tell images apart more with smoothing",
        "whether logits tell images apart less with smoothing is open",
        {"ends-lower": ""},
    ),
    Saying(
        "their classes have not collapsed to points {}",
        "classes have collapsed to points {}",
        "whether classes have collapsed is open {}",
        {"not-collapsed-hard": "at ε = 0", "not-collapsed-smoothed": "at ε = 0.1"},
    ),
    Saying(
        "mutual information falls late in training {}",
        "it does not fall {}",
        "whether it falls is open {}",
        {"fall-hard": "at ε = 0", "fall-smoothed": "at ε = 0.1"},
    ),
]


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    teacher = on_views(chosen.teacher, data).replace(snapshots=3 if scale == "smoke" else SNAPSHOTS)
    return teachers(teacher, range(chosen.seeds), SMOOTHINGS)


def probes(scale: Scale, data: str) -> tuple[InformationProbe]:
    """Measure mutual information at each snapshot, of 300 images of each of two classes, as in the paper."""
    per_class = 30 if scale == "smoke" else 300
    return (InformationProbe(classes=CLASSES, per_class=per_class, draws=DRAWS, view_seed=VIEW_SEED),)


def draw(table: Table) -> Mapping[str, Figure]:
    """Draw the figure of the paper: mutual information against training step."""
    figure = drawing.new_figure(
        4.6,
        f"Mutual information between a training image of two classes{_named(table)} and the difference of their "
        "two logits, over random views of the image: means over seeds with 95 % intervals as bands. Above, log N: "
        f"every image is told apart. Below, log 2: all that is left is the class. With {DRAWS} views per image the "
        "estimate for perfectly collapsed classes lies a little lower (dotted).",
    )
    # The curves would be flat at the foot of axes that reach up to log N.
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=[1, 7])
    for series in drawing.series_of(table):
        drawing.band(axes, table, series, "information_step", "information", opacity=0.2, markersize=4)
    if drawing.is_empty(axes):
        above.set_axis_off()
        return {"mutual_information": figure}
    _limits(above, axes, table)
    axes.set(xlabel="training step", ylabel="I(X;Y), nats")
    drawing.legend_below(figure)
    return {"mutual_information": figure}


def _named(table: Table) -> str:
    """Name the two classes in brackets, as far as their names are known."""
    names = [table.classes[cls] for cls in CLASSES if cls < len(table.classes)]
    return f" ({' and '.join(names)})" if names else ""


def _limits(above: Axes, axes: Axes, table: Table) -> None:
    """Draw log N in axes of its own, and log 2 and the estimate for collapsed classes beside the curves."""
    # All networks are measured with as many images and views, so these are the same for all.
    log_n, floor = (_of_any(table, f"information_{name}") for name in ("log_n", "floor"))
    above.axhline(log_n, color="#555555", linewidth=1.2)
    _name(above, log_n, f"log N = {log_n:.3f}", "bottom")
    above.set_ylim(log_n - 0.1, log_n + 0.5)
    above.set_yticks([log_n], [f"{log_n:.1f}"])
    above.spines[["top", "right", "bottom"]].set_visible(False)
    above.tick_params(axis="x", bottom=False)
    for part, end in ((above, 0), (axes, 1)):
        _cut(part, end)
    axes.axhline(math.log(2), color="#555555", linewidth=1.2)
    _name(axes, math.log(2), f"log 2 = {math.log(2):.3f}", "bottom")
    axes.axhline(floor, color="#555555", linewidth=1.2, linestyle=":")
    _name(axes, floor, f"collapsed classes, as estimated: {floor:.3f}", "top")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), axes.get_ylim()[1])
    drawing.open_frame(axes)


def _of_any(table: Table, measure: str) -> float:
    return next(values[measure] for values in table.values.values() if measure in values)


def _cut(axes: Axes, end: float) -> None:
    """Draw a slanted stroke on the vertical axis: it goes on in the other axes, after a gap."""
    stroke = {"marker": [(-1, -0.6), (1, 0.6)], "markersize": 8, "linestyle": "none", "color": "black"}
    axes.plot([0], [end], transform=axes.transAxes, clip_on=False, **stroke)


def _name(axes: Axes, height: float, text: str, side: Literal["bottom", "top"]) -> None:
    """Name a horizontal line, right of the steep rise, with the bottom or the top of the text on the line."""
    offset = 2 if side == "bottom" else -2
    place = axes.get_yaxis_transform()
    axes.annotate(
        text, (0.15, height), (0, offset), xycoords=place, textcoords="offset points", va=side, fontsize=9
    )
