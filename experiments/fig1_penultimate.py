"""Penultimate activations on the plane through three templates, without and with label smoothing.

Reproduces Müller, Kornblith & Hinton 2019, Figure 1 (section 2): pick three classes, take the plane through their
templates (the weights and bias of the last layer), and project on it the penultimate activations of 100 training
and 100 held-out images of each. Their claim: with smoothing, clusters are tighter, since an example is drawn to its
own template and held equally far from those of the incorrect classes. They show pictures and print no number; here
both halves of the claim are measured (`distill/metrics/geometry.py`). Compactness is the mean squared distance to
the class mean, relative to that between class means, on the plane: smoothing shrinks all activations, so an
absolute spread would say nothing. Imbalance is how unequal the squared distances to the two incorrect templates
are, relative to how much nearer the own one is. Scatter (the same as compactness, but in the whole space) and the
irregularity of the triangle of class means are reported beside them.

Rows: classes 0, 1, 2 of every data set, which on CIFAR-10 are the paper's airplane, automobile, bird. Where a data
set has two similar classes, a second row puts them beside a different one, as the paper's last row does with two
poodles and a tench; no claim is made of it. On CIFAR-100 (`--data cifar100`) the paper names beaver, dolphin,
otter. These are the first three of a list by superclass, while CIFAR-100's labels are alphabetical: 0, 1, 2 are
apple, aquarium fish, baby, and may be what was plotted. Both triples are drawn.

Departs from the paper: one kind of net per data set, that of the other figures, so that teachers are shared
(theirs: AlexNet on CIFAR-10, ResNet-56 on CIFAR-100, Inception-v4 on ImageNet); no ImageNet. The plane's origin is
the centroid of the three templates and its first axis points to the first of them, which the paper leaves open.

Cost at `quick` on two CPU cores: 10 nets, about 7 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from distill.config import PenultimateProbe
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments.base import DATA_OF_FIGURES, setting_of_figures
from experiments.conditions import HARD, SMOOTHED, teacher_of, teachers

SMOOTHINGS = (0.0, 0.1)
SPLITS = {"train": "train", "held_out": "held-out"}
"""Split in the names of measures → split in words."""

FIRST = (0, 1, 2)
SECOND = {
    "digits": (4, 9, 0),
    "mnist": (4, 9, 0),
    "fashion-mnist": (0, 6, 7),  # T-shirt/top, Shirt, Sneaker
    "cifar10": (3, 5, 8),  # cat, dog, ship
    "cifar100": (4, 30, 55),  # beaver, dolphin, otter
}
"""Two similar classes and a different one; on CIFAR-100 those that the paper names."""

REPRODUCES = "Figure 1"
DATA = DATA_OF_FIGURES
# fmt: off
PAPER = [
    Published(f"Müller 2019, Figure 1: {claimed} of {SPLITS[split]} images, ε={smoothing:g}", None,
              condition=teacher_of(smoothing), measure=f"{measure}_{split}")
    for (measure, claimed), split, smoothing in product(
        (("compactness", "spread"), ("imbalance", "distance to incorrect templates")), SPLITS, SMOOTHINGS
    )
]
# fmt: on
_SAID = {
    "tight-{}": ("makes the clusters of {} images tighter, relative to their distance", "compactness"),
    "equidistant-{}": ("puts {} images more equally far from the templates of the incorrect classes", "imbalance"),
}
CLAIMS = [
    Claim(id_.format(name), f"smoothing {said.format(name)}", f"{measure}_{split}", SMOOTHED, HARD, "lower")
    for (id_, (said, measure)), (split, name) in product(_SAID.items(), SPLITS.items())
]


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    return teachers(chosen.teacher, range(chosen.seeds), SMOOTHINGS)


def probes(scale: Scale, data: str) -> tuple[PenultimateProbe]:
    """Project on the plane through each triple of templates, as in the paper 100 images of each class and split."""
    return (PenultimateProbe(triples=(FIRST, SECOND[data]) if data in SECOND else (FIRST,)),)


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report, the picture first."""
    # Imported late: it takes its names from here.
    from experiments import fig1_figures

    return fig1_figures.draw(table)
