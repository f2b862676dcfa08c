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
Command: `distill reproduce table2_accuracy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distill.config import LossConfig, StudentConfig, TeacherConfig
from distill.metrics.verdict import interval
from distill.reports.experiment import Claim, Label, Published, Scale, Table
from experiments import drawing
from experiments.base import DATA_OF_FIGURES, is_published, setting_of_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTHING = 0.1
TEACHER = "teacher ε=0", f"teacher ε={SMOOTHING:g}"
STUDENT = "student of labels", "student of smoothed labels"

REPRODUCES = "Table 2"
DATA = DATA_OF_FIGURES
_TABLE = "Müller 2019, Table 2"
PAPER = [
    Published(f"{_TABLE}: AlexNet on CIFAR-10, ε=0", 0.868, 0.002, STUDENT[0], "accuracy"),
    Published(f"{_TABLE}: AlexNet on CIFAR-10, ε=0.1", 0.867, 0.003, STUDENT[1], "accuracy"),
    Published(f"{_TABLE}: ResNet-56 on CIFAR-100, ε=0", 0.721, 0.003, TEACHER[0], "accuracy"),
    Published(f"{_TABLE}: ResNet-56 on CIFAR-100, ε=0.1", 0.727, 0.003, TEACHER[1], "accuracy"),
    Published(f"{_TABLE}: Inception-v4 on ImageNet, ε=0", 0.809, None, TEACHER[0], "accuracy"),
    Published(f"{_TABLE}: Inception-v4 on ImageNet, ε=0.1", 0.809, None, TEACHER[1], "accuracy"),
]
CLAIMS = [
    Claim("teacher", "smoothing raises the accuracy of the teacher", "accuracy", TEACHER[1], TEACHER[0], "higher"),
]


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    # AlexNet is trained on crops and flips, as ResNet-56 is; MLPs see images as they are.
    augment = chosen.teacher.augment if is_published(data, scale) else chosen.student.augment
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        for condition, smoothing in zip(TEACHER, (0.0, SMOOTHING), strict=True):
            found[Label(condition, seed)] = chosen.teacher.replace(seed=seed).with_loss(smoothing=smoothing)
        if (data, scale) == ("cifar100", "paper"):
            continue
        for condition, smoothing in zip(STUDENT, (0.0, SMOOTHING), strict=True):
            loss = LossConfig(alpha=0, smoothing=smoothing)
            student = chosen.student.replace(seed=seed, cache=None, loss=loss, augment=augment)
            found[Label(condition, seed)] = student
    return found


def draw(table: Table) -> Mapping[str, Any]:
    """The figure of the report."""
    return {"accuracy": _accuracy(table)}


def _accuracy(table: Table) -> Figure:
    """Accuracy of each network without and with smoothing: seeds, and their mean."""
    figure = drawing.new_figure(
        3.8,
        "Test accuracy without and with label smoothing: a dot per seed, the two networks of one seed joined, and "
        "beside them their mean with its 95 % interval. The panels have scales of their own.",
    )
    panels = ("teacher", TEACHER), ("student, from labels alone", STUDENT)
    shown = [(title, pair) for title, pair in panels if any(_by_seed(table, name) for name in pair)]
    if not shown:
        drawing.nothing(figure.subplots())
        return figure
    row = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (title, pair) in zip(row, shown, strict=True):
        _panel(axes, table, pair)
        drawing.heading(axes, title)
    row[0].set_ylabel("test accuracy, %")
    return figure


def _panel(axes: Axes, table: Table, pair: tuple[str, str]) -> None:
    """One network: hard labels to the left, smoothed ones to the right."""
    hard, smoothed = (_by_seed(table, condition) for condition in pair)
    for seed in sorted(hard.keys() & smoothed.keys()):
        axes.plot([0, 1], [hard[seed], smoothed[seed]], color="#999999", linewidth=0.9, zorder=1)
    for place, (condition, seeds) in enumerate(zip(pair, (hard, smoothed), strict=True)):
        if not seeds:
            continue
        color, found = drawing.color_of(condition, table), interval(seeds.values())
        axes.plot([place] * len(seeds), list(seeds.values()), "o", color=color, markersize=4, alpha=0.7)
        beside = place + (0.18 if place else -0.18)
        axes.errorbar(beside, found.mean, drawing.half_width(found), fmt="D", color=color, markersize=6, capsize=4)
    axes.set_xticks([0, 1], ["ε=0", f"ε={SMOOTHING:g}"])
    axes.set_xlim(-0.5, 1.5)
    drawing.open_frame(axes)


def _by_seed(table: Table, condition: str) -> dict[int, float]:
    """Seed → accuracy in %."""
    return {seed: 100 * value for seed, value in table.by_seed(condition, "accuracy").items()}
