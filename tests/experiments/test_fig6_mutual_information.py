"""Figure 6: which networks it trains, how they are measured, and how the curves are drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill.config import AugmentConfig, TeacherConfig
from distill.metrics.verdict import FEWEST_SEEDS, interval, judge
from distill.reports.experiment import Label, Table
from experiments import drawing
from experiments import fig6_mutual_information as fig6
from experiments.base import setting_of_figures

STEPS = [0.0, 10.0, 20.0, 30.0]


def measured(seeds: int = 3, log_n: float = math.log(600)) -> Table:
    """Curves that rise and fall, the smoothed one further."""
    table = Table(classes=("cat", "dog"))
    for seed in range(seeds):
        for fall, condition in ((0.1, fig6.HARD), (0.4, fig6.SMOOTHED)):
            early = 1.4 + 0.01 * seed
            late = early - fall - 0.02 * seed
            table.curves[Label(condition, seed)] = {
                "information_step": STEPS,
                "information": [0.1, early, (early + late) / 2, late],
            }
            table.values[Label(condition, seed)] = {
                "information_first": 0.1,
                "information_early": early,
                "information_late": late,
                "information_drop": early - late,
                "information_floor": 0.629,
                "information_log_n": log_n,
            }
    return table


@pytest.mark.parametrize("scale", ["smoke", "quick", "short", "paper"])
@pytest.mark.parametrize("data", ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_every_network_can_be_probed(scale, data):
    runs = fig6.runs(scale, data)
    (probe,) = fig6.probes(scale, data)
    assert {label.condition for label in runs} == {fig6.HARD, fig6.SMOOTHED}
    for label, config in runs.items():
        assert isinstance(config, TeacherConfig)
        assert config.augment.pad > 0
        assert config.snapshots == (3 if scale == "smoke" else 16)
        twin = runs[Label(fig6.HARD, label.seed)]
        assert config.with_loss(smoothing=0.0) == twin
        assert config.seed != probe.view_seed
    assert (probe.classes, probe.draws) == ((0, 5), 5)
    if scale != "smoke":
        assert probe.per_class == 300
        assert len({label.seed for label in runs}) >= FEWEST_SEEDS


def test_a_folder_of_cifar10_is_probed_by_the_classes_of_the_paper():
    for data in ("cifar10", "imagefolder:photos", "fashion-mnist"):
        assert fig6.probes("quick", data)[0].classes == (0, 5)


def test_images_that_the_setting_shows_in_one_way_get_views_and_longer_training():
    chosen = setting_of_figures("fashion-mnist", "quick").teacher
    assert chosen.augment == AugmentConfig()
    config = fig6.runs("quick", "fashion-mnist")[Label(fig6.HARD, 0)]
    assert config.schedule == chosen.schedule.replace(epochs=2 * chosen.schedule.epochs)
    assert config.replace(augment=chosen.augment, schedule=chosen.schedule, snapshots=0) == chosen
    own = setting_of_figures("cifar10", "paper").teacher
    assert fig6.runs("paper", "cifar10")[Label(fig6.HARD, 0)].replace(snapshots=0) == own


def test_claims_hold_where_information_rises_and_falls_further_with_smoothing():
    table = measured()
    for claim in fig6.CLAIMS:
        condition = table.by_seed(claim.condition, claim.measure)
        versus = table.by_seed(claim.versus, claim.versus_measure or claim.measure)
        assert judge(condition, versus, claim.direction).verdict == "reproduced", claim.id
        assert judge(versus, condition, claim.direction).verdict == "contradicted", claim.id


def test_the_figure_shows_means_bands_and_limits():
    table = measured()
    figure = fig6.draw(table)["mutual_information"]
    figure.canvas.draw()
    assert str(figure.get_label()).endswith(".")
    above, axes = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert {fig6.HARD, fig6.SMOOTHED} <= lines.keys()
    assert lines[fig6.SMOOTHED].get_color() == drawing.SMOOTHED[0]
    steps, means = np.asarray(lines[fig6.HARD].get_data())
    assert steps.tolist() == STEPS
    last = [curves["information"][-1] for label, curves in table.curves.items() if label.condition == fig6.HARD]
    assert means[-1] == pytest.approx(interval(last).mean)
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    heights = band[band[:, 0] == STEPS[-1], 1]
    assert [heights.min(), heights.max()] == pytest.approx([interval(last).low, interval(last).high])
    flat = [np.asarray(line.get_ydata()) for line in axes.lines if np.asarray(line.get_ydata()).size == 2]
    assert [height[0] for height in flat] == pytest.approx([math.log(2), 0.629])
    assert above.get_ylim()[0] < math.log(600) < above.get_ylim()[1]
    assert [text.get_text() for text in above.texts] == ["log N = 6.397"]


@pytest.mark.parametrize("table", [Table(), measured(1)], ids=["empty", "one seed"])
def test_draws_what_is_there(table):
    fig6.draw(table)["mutual_information"].canvas.draw()


def test_a_diverged_condition_is_left_out():
    table = measured()
    for label in [label for label in table.values if label.condition == fig6.SMOOTHED]:
        table.diverged[label] = "accuracy at chance"
        del table.values[label], table.curves[label]
    figure = fig6.draw(table)["mutual_information"]
    figure.canvas.draw()
    assert fig6.SMOOTHED not in {line.get_label() for line in figure.axes[1].lines}
