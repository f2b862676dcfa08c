"""Does label smoothing raise accuracy?

Reproduces Table 2 of Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?": top-1 accuracy of networks
trained without smoothing and with ε=0.1. The paper sets out from the observation that smoothing improves accuracy;
its own table has 0.6 points on CIFAR-100 and next to nothing on CIFAR-10 and ImageNet. The claim tested here is the
first, of the teacher. Of the student there is none: for this network the table prints a tenth of a point less with
smoothing, and Figure 5 says that it degrades.

Per seed: the teacher and the student of the setting, each trained from hard and from smoothed labels, no
distillation. The paper has AlexNet on CIFAR-10, which is the student at `paper`, and ResNet-56 on CIFAR-100, which
is the teacher. On CIFAR-100 at `paper` the student is left out: it is not in the table, and ten networks of 1,248
epochs would cost more than all the rest. The paper's numbers are of
10,000 held-out images; ours are of the test set, on which nothing was selected.

Cost at `quick` on two CPU cores: 20 nets, about 7 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.reports.experiment import Published, Runs, Scale, Table
from experiments import base, drawing, figures
from experiments.base import DATA_OF_FIGURES, is_published, setting_of_figures
from experiments.conditions import HARD, OF_LABELS, OF_SMOOTHED_LABELS, SMOOTHED, TEACHER_GAINS, labelled, smoothed

SMOOTHING = 0.1
TEACHER, STUDENT = (HARD, SMOOTHED), (OF_LABELS, OF_SMOOTHED_LABELS)

REPRODUCES = "Table 2"
DATA = DATA_OF_FIGURES
REPLICATION = base.REPLICATION
_TABLE = "Müller 2019, Table 2"
PAPER = [
    Published(f"{_TABLE}: AlexNet on CIFAR-10, ε=0", 0.868, 0.002, STUDENT[0], "accuracy", 0.8537),
    Published(f"{_TABLE}: AlexNet on CIFAR-10, ε=0.1", 0.867, 0.003, STUDENT[1], "accuracy"),
    Published(f"{_TABLE}: ResNet-56 on CIFAR-100, ε=0", 0.721, 0.003, TEACHER[0], "accuracy"),
    Published(f"{_TABLE}: ResNet-56 on CIFAR-100, ε=0.1", 0.727, 0.003, TEACHER[1], "accuracy"),
    Published(f"{_TABLE}: Inception-v4 on ImageNet, ε=0", 0.809, None, TEACHER[0], "accuracy"),
    Published(f"{_TABLE}: Inception-v4 on ImageNet, ε=0.1", 0.809, None, TEACHER[1], "accuracy"),
]
CLAIMS = TEACHER_GAINS


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    # AlexNet is trained on crops and flips, as ResNet-56 is; MLPs see images as they are.
    augment = chosen.teacher.augment if is_published(data, scale) else chosen.student.augment
    built: Runs = {}
    for seed in range(chosen.seeds):
        teachers = smoothed(chosen.teacher.replace(seed=seed), (0.0, SMOOTHING))
        built |= labelled(dict(zip(TEACHER, teachers.values(), strict=True)), seed)
        if (data, scale) != ("cifar100", "paper"):
            student = chosen.student.replace(seed=seed, augment=augment)
            students = (student, student.with_loss(smoothing=SMOOTHING))
            built |= labelled(dict(zip(STUDENT, students, strict=True)), seed)
    return built


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the accuracy of each network without and with smoothing: seeds, and their mean."""
    figure = drawing.new_figure(
        3.8,
        "Test accuracy without and with label smoothing: a dot per seed, the two networks of one seed joined, and "
        "beside them their mean with its 95 % interval. The panels have scales of their own.",
    )
    panels = ("teacher", TEACHER), ("student, from labels alone", STUDENT)
    shown = [(title, pair) for title, pair in panels if any(table.by_seed(name, "accuracy") for name in pair)]
    if not shown:
        drawing.nothing(figure.subplots())
        return {"accuracy": figure}
    row = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, pair) in zip(row, shown, strict=True):
        names = dict(zip(pair, ("ε=0", f"ε={SMOOTHING:g}"), strict=True))
        figures.paired(axes, table, names, "accuracy", 100, aside=0.18, markersize=6)
        drawing.heading(axes, title)
    row[0].set_ylabel("test accuracy, %")
    return {"accuracy": figure}
