"""Calibration: networks that differ in smoothing alone, scaled by the temperature that held-out images choose."""

import math
from itertools import pairwise

import pytest

from distill.config import TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import dark_knowledge, drawing, fig2_calibration
from experiments.base import setting_of_figures
from experiments.fig2_calibration import CLAIMS, HARD, PAPER, SMOOTHINGS, TEMPERATURES

DATA = "digits", "mnist", "fashion-mnist", "cifar10", "cifar100"
SCALES = "smoke", "quick", "short", "paper"
MEASURED = "ece", "scaled_ece", "scaled_temperature", "lowest_nll"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_networks_differ_in_smoothing_alone(scale, data):
    runs = fig2_calibration.runs(scale, data)
    chosen = setting_of_figures(data, scale)
    assert {label.seed for label in runs} == set(range(chosen.seeds))
    assert len(runs) == len(SMOOTHINGS) * chosen.seeds
    for label, config in runs.items():
        assert isinstance(config, TeacherConfig)
        assert config.loss.smoothing == drawing.smoothing(label.condition)
        assert config.replace(seed=0).with_loss(smoothing=0) == chosen.teacher
        assert config.data.held_out > 0, "a temperature is fitted on held-out images"


def test_networks_are_shared_with_other_experiments():
    shared = dark_knowledge.runs("quick", "digits")
    runs = fig2_calibration.runs("quick", "digits")
    assert shared[Label(HARD, 0)] == runs[Label(HARD, 0)]
    assert shared[Label("teacher ε=0.1", 1)] == runs[Label("teacher ε=0.1", 1)]


def test_temperatures_are_spaced_by_their_logarithm():
    (probe,) = fig2_calibration.probes("quick", "digits")
    assert probe.temperatures == TEMPERATURES
    assert (TEMPERATURES[0], TEMPERATURES[-1]) == (0.25, 8)
    assert 1 in TEMPERATURES
    steps = [math.log2(b / a) for a, b in pairwise(TEMPERATURES)]
    assert steps == pytest.approx([0.2] * 25, abs=1e-3)


def test_claims_and_published_numbers_name_what_is_measured():
    conditions = {label.condition for label in fig2_calibration.runs("quick", "digits")}
    assert {name for claim in CLAIMS for name in (claim.condition, claim.versus)} <= conditions
    assert {claim.measure for claim in CLAIMS} | {claim.versus_measure or "ece" for claim in CLAIMS} <= {*MEASURED}
    assert {entry.condition for entry in PAPER} <= conditions
    assert {entry.measure for entry in PAPER} <= {*MEASURED}
    assert len({entry.source for entry in PAPER}) == len(PAPER)
    scaling = CLAIMS[0]
    assert (scaling.condition, scaling.measure, scaling.direction) == (HARD, "scaled_ece", "lower")
    assert (scaling.versus, scaling.versus_measure) == (HARD, "ece")


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in fig2_calibration.runs("paper", "cifar10"):
        if label.seed >= seeds:
            continue
        worse = 1 + 0.1 * label.seed
        table.values[label] = {
            "ece": 0.1 * worse,
            "scaled_ece": 0.02 * worse,
            "scaled_nll": 0.3 * worse,
            "scaled_temperature": 2 * worse,
        }
        many = 100.0 if label.seed == 0 else 300.0
        diagram = {
            "confidence": [0, 0.5, 0.9 + 0.01 * label.seed],
            "accuracy": [0, 0.4, 0.7],
            "count": [0, 4, many],
        }
        table.curves[label] = {
            **{f"reliability_{part}": values for part, values in diagram.items()},
            **{f"scaled_reliability_{part}": values for part, values in diagram.items()},
            "temperatures": list(TEMPERATURES),
            "nll_by_temperature": [worse * (0.3 + math.log(t) ** 2) for t in TEMPERATURES],
            # At one temperature the seeds differ so much that the interval reaches below 0, on a log scale.
            "ece_by_temperature": [0.05 if t != 1 else 0.01 + 0.3 * (label.seed == 1) for t in TEMPERATURES],
        }
    return table


def test_the_diagram_pools_seeds_by_count():
    figure = fig2_calibration.draw(measured())["reliability"]
    diagram, histogram = figure.axes
    lines = {line.get_label(): line for line in diagram.lines if not line.get_label().startswith("_")}
    assert [name.split(":")[0] for name in lines] == ["ε=0", "ε=0, T=2.20", "ε=0.05", "ε=0.1"]
    hard = lines["ε=0: ECE 11.00 ± 2.48 %"]
    # The first bin is empty and not drawn, the second holds too few for a solid line.
    assert list(hard.get_xdata()) == pytest.approx([0.5, (0.9 * 100 + 0.91 * 300 + 0.92 * 300) / 700])
    assert list(hard.get_ydata()) == pytest.approx([math.nan, 0.7], nan_ok=True)
    assert hard.get_color() == drawing.HARD
    (shares,) = {tuple(share[0][1] for share in steps.get_segments()) for steps in histogram.collections}
    assert shares == pytest.approx([100 * 12 / 712, 100 * 700 / 712])


def test_curves_stand_at_their_temperature_and_markers_at_the_fitted_one():
    nll, ece = fig2_calibration.draw(measured())["by_temperature"].axes
    hard, fitted = nll.lines[:2]
    assert list(hard.get_xdata()) == list(TEMPERATURES)
    assert min(hard.get_ydata()) == pytest.approx(0.33)
    assert (*fitted.get_xdata(), *fitted.get_ydata()) == pytest.approx((2.2, 0.33))
    assert ece.lines[0].get_ydata()[0] == pytest.approx(5)
    # The interval at T=1 reaches below 0, the axis does not follow it there.
    assert ece.get_ylim()[0] == pytest.approx(0.6 * 2.2)


@pytest.mark.parametrize("seeds", [0, 1, 2, 3])
@pytest.mark.parametrize("missing", [None, "scaled", "teacher ε=0"])
def test_draws_what_is_there(seeds, missing):
    table = measured(seeds)
    for label in list(table.values):
        if missing == label.condition:
            table.diverged[label] = "accuracy at chance"
            del table.values[label], table.curves[label]
        elif missing == "scaled":
            table.values[label] = {"ece": table.values[label]["ece"]}
    figures = fig2_calibration.draw(table)
    assert list(figures) == ["reliability", "by_temperature"]
    for figure in figures.values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")
        assert any(axes.texts for axes in figure.axes) == (seeds == 0)
