"""Label smoothing and temperature scaling: both make a network's confidence match its accuracy.

Reproduces Figure 2 and Table 3 of Müller, Kornblith & Hinton 2019, "When Does Label Smoothing Help?": a network
trained on hard labels is overconfident; division of its logits by one temperature, or smoothing of the labels that
it learns from, lowers its expected calibration error (ECE, 15 bins).

Per seed: three networks that differ in nothing but smoothing. The temperature is fitted on the held-out images
(NLL, by L-BFGS), all else is measured on the test set. The paper's numbers are of the 10,000 held-out images; here
nothing but `lowest_nll` (below) is selected on the test set, and the temperature is not fitted on the images that
it is judged by. (How many images of Fashion-MNIST to train on was decided with the test ECE of one seed in view:
`experiments/base.py`.) At `short` and `paper` the data are CIFAR-100, as in Table 3.

The paper says that a smoothed network is about as well calibrated as a scaled one. That is no direction, so it is
no claim here: the table shows `scaled_ece` of ε=0 beside `ece` of the others. Which ε is best is not chosen
either: the paper prints 0.05 for CIFAR-100 and 0.1 for ImageNet, and both are shown.

Of Figure 4 (right), on translation, the paper says that the NLL of hard targets is lower than that of smoothed
ones at every temperature. Whether that holds of images it does not say. The second figure here draws it, and the
claim takes what must follow from it: each network at the temperature of the grid that suits the test set best, the
hard one has the lower NLL. The row of Table 3 on translation is in fig3_sequence.

On digits so few images are held out that a network may be right on all of them; the fitted temperature is then at
the bound that `distill.metrics.temperature.fit_temperature` names, and says nothing.

Cost at `quick` on two CPU cores: 15 nets, about 10 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.config import TemperaturesProbe
from distill.metrics.verdict import interval
from distill.reports.experiment import Claim, Published, Runs, Scale, Table
from experiments import base, drawing
from experiments.base import DATA_OF_FIGURES, always, setting_of_figures
from experiments.conditions import HARD, claims, scaling_lowers_ece, teacher_of, teachers
from experiments.drawing import Axes, Figure
from experiments.reliability import FEW, reliability

SMOOTHINGS = (0.0, 0.05, 0.1)
TEMPERATURES = tuple(round(2 ** (step / 5), 4) for step in range(-10, 16))
"""From 1/4 to 8, 1 among them; rounded, or a platform's last digit would make another config."""


REPRODUCES = "Figure 2 and Table 3"
DATA: dict[Scale, str] = {**DATA_OF_FIGURES, "short": "cifar100", "paper": "cifar100"}
REPLICATION = base.REPLICATION
_TABLE = "Müller 2019, Table 3"
PAPER = [
    Published(f"{_TABLE}: ECE of ResNet-56 on CIFAR-100, ε=0", 0.150, None, HARD, "ece", 0.207),
    Published(f"{_TABLE}: ECE of ResNet-56 on CIFAR-100, ε=0, scaled", 0.021, None, HARD, "scaled_ece"),
    Published(f"{_TABLE}: temperature of ResNet-56 on CIFAR-100", 1.9, None, HARD, "scaled_temperature"),
    Published(f"{_TABLE}: ECE of ResNet-56 on CIFAR-100, ε=0.05", 0.024, None, teacher_of(0.05), "ece", 0.053),
    Published("ECE of a fully connected network on Fashion-MNIST, ε=0", "none", None, HARD, "ece", 0.010),
    Published("ECE of the same, ε=0.05", "none", None, teacher_of(0.05), "ece", 0.042),
    Published("ECE of the same, ε=0.1", "none", None, teacher_of(0.1), "ece", 0.085),
    Published(f"{_TABLE}: ECE of Inception-v4 on ImageNet, ε=0", 0.071, None, HARD, "ece"),
    Published(f"{_TABLE}: ECE of Inception-v4 on ImageNet, ε=0, scaled", 0.022, None, HARD, "scaled_ece"),
    Published(f"{_TABLE}: temperature of Inception-v4 on ImageNet", 1.4, None, HARD, "scaled_temperature"),
    Published(f"{_TABLE}: ECE of Inception-v4 on ImageNet, ε=0.1", 0.035, None, teacher_of(0.1), "ece"),
]
# fmt: off
CLAIMS = [
    scaling_lowers_ece("scaling", "temperature scaling lowers the ECE of the network of hard labels"),
    *claims("smoothing-{:g}", "smoothing by {:g} lowers the ECE, without temperature scaling", "ece",
            {smoothing: (teacher_of(smoothing), HARD) for smoothing in SMOOTHINGS[1:]}, "lower"),
    Claim("nll", "at its best temperature, the network of hard labels has a lower NLL than that of ε=0.1 (the "
          "paper's claim is on translation)", "lowest_nll", teacher_of(0.1), HARD, "higher"),
]
# fmt: on


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    return teachers(chosen.teacher, range(chosen.seeds), SMOOTHINGS)


probes = always(TemperaturesProbe(temperatures=TEMPERATURES))


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    return {"reliability": reliability(table, _RELIABILITY), "by_temperature": _by_temperature(table)}


_RELIABILITY = (
    "Reliability: accuracy against mean confidence of the test predictions in each of 15 bins, all seeds "
    "together; on the diagonal a network is calibrated, below it overconfident. Dashed: hard labels, logits "
    "divided by the temperature that was fitted on held-out images (mean over seeds). Bins with fewer than "
    f"{FEW} predictions are pale. Beside each name the ECE in %, mean over seeds with 95 % interval. Below: "
    "the share of predictions in each bin, on a log scale."
)


def _by_temperature(table: Table) -> Figure:
    """Draw NLL and ECE of each network at each temperature, and where its fitted temperature lies."""
    figure = drawing.new_figure(
        3.9,
        "Test NLL and ECE when logits are divided by a temperature, on log scales: means over seeds with 95 % "
        "intervals as bands. Large markers: the temperature that was fitted on held-out images, and what it leads "
        "to, means over seeds. Dotted: T=1, the networks as they are.",
    )
    panels = (("nll", "NLL, nats", 1.0), ("ece", "ECE, %", 100.0))
    for axes, (measure, title, scale) in zip(figure.subplots(1, 2), panels, strict=True):
        for series in drawing.series_of(table):
            _draw_curve(axes, table, series, measure, scale)
        drawing.heading(axes, title)
        if drawing.is_empty(axes):
            continue
        axes.set_xscale("log", base=2)
        axes.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["¼", "½", "1", "2", "4", "8"])
        axes.set_xlabel("temperature")
        drawing.logarithmic(axes, (1, 2, 5))
        # An interval of few seeds may reach below 0, which would take the axis with it.
        axes.set_ylim(bottom=0.6 * min(min(line.get_ydata()) for line in axes.lines))
        axes.axvline(1, color="#555555", linestyle=":", linewidth=1)
        drawing.open_frame(axes)
    drawing.legend_below(figure)
    return figure


def _draw_curve(axes: Axes, table: Table, series: drawing.Series, measure: str, scale: float) -> None:
    """Draw one measure of one network against the temperature."""
    drawing.band(axes, table, series, "temperatures", f"{measure}_by_temperature", scale)
    fitted = [table.by_seed(series.teacher, name) for name in ("scaled_temperature", f"scaled_{measure}")]
    if not all(fitted):
        return
    at, reached = (interval(values.values()).mean for values in fitted)
    axes.plot(at, scale * reached, series.marker, color=series.color, markersize=8, markeredgecolor="white")
