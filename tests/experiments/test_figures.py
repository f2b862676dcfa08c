"""Shared figures: drawn for full, partial and empty tables, with nothing left in pyplot."""

import sys

import pytest

from distill.reports.experiment import Label, Table
from experiments import drawing, figures
from experiments.reliability import reliability as draw_reliability


def reliability(table: Table):
    return draw_reliability(table, "Of the teachers.")


DRAW = (figures.nontarget_spread, figures.unseen_recall, figures.accuracy_by_temperature, reliability)
TEACHERS = "teacher ε=0", "teacher ε=0.1"
STUDENTS = "student of labels", "student of ε=0, T=1", "student of ε=0, T=16", "student of ε=0.1, T=4"


def measured(seeds: int = 2) -> Table:
    table = Table(classes=("cat", "dog", "ship"))
    for seed in range(seeds):
        for place, condition in enumerate((*TEACHERS, *STUDENTS)):
            value = 0.5 + 0.05 * place + 0.01 * seed
            table.values[Label(condition, seed)] = {
                "accuracy": value,
                "ece": 0.02 + 0.01 * seed,
                "interclass_variance_within": value,
                "interclass_variance_between": 2 * value,
                "interclass_variance_relative": 0.1 * value,
            }
            table.curves[Label(condition, seed)] = {
                "reliability_confidence": [0.1, 0.5, 0.9],
                "reliability_accuracy": [0.0, 0.4, 0.8],
                "reliability_count": [0.0, 3.0 + seed, 40.0],
                "nontarget_spread": [value, 2 * value, 3 * value],
            }
        for condition in STUDENTS:
            unseen = {"unseen_recall": 0.3, "unseen_recall_corrected": 0.6, "unseen_auc": 0.9 + 0.01 * seed}
            table.values[Label(condition, seed, 1)] = unseen
    return table


@pytest.mark.parametrize("draw", DRAW, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("seeds", [1, 2])
def test_draws_and_captions(draw, seeds):
    figure = draw(measured(seeds))
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
    assert not any(axes.texts for axes in figure.axes)


@pytest.mark.parametrize("draw", DRAW, ids=lambda draw: draw.__name__)
def test_draws_what_is_there(draw):
    draw(Table()).canvas.draw()
    table = measured()
    for label in list(table.values):
        if "ε=0.1" in label.condition or label.condition == "student of labels":
            table.diverged[label] = "accuracy at chance"
            del table.values[label]
            table.curves.pop(label, None)
    draw(table).canvas.draw()


def test_missing_measures_leave_their_panels_empty():
    table = measured()
    for measures in table.values.values():
        measures.pop("interclass_variance_relative", None)
        measures.pop("unseen_auc", None)
    spread = figures.nontarget_spread(table)
    assert [axes.texts[0].get_text() for axes in spread.axes if axes.texts] == ["no run to draw"]
    figures.unseen_recall(table).canvas.draw()


def test_students_stand_at_their_temperature():
    axes = figures.accuracy_by_temperature(measured()).axes[0]
    hard, smoothed = axes.containers
    assert list(hard.lines[0].get_xdata()) == pytest.approx([1, 16], rel=0.03)
    assert list(smoothed.lines[0].get_xdata()) == pytest.approx([4], rel=0.03)
    assert hard.lines[0].get_color() == drawing.HARD
    assert smoothed.lines[0].get_color() == drawing.SMOOTHED[0]


def test_reliability_pools_seeds_by_count():
    diagram = reliability(measured()).axes[0]
    # The empty first bin is not drawn; accuracies are alike over seeds, counts are not.
    assert list(diagram.lines[1].get_ydata()) == pytest.approx([0.4, 0.8])
    assert diagram.get_legend_handles_labels()[1][0].startswith("ε=0: ECE 2.50 ±")


def test_conditions_are_parsed():
    assert drawing.temperature("student of ε=0.1, T=16") == 16
    assert drawing.smoothing("student of ε=0.1, T=16") == 0.1
    assert drawing.temperature("teacher ε=0") is None
    assert drawing.smoothing("student of labels") is None


def test_no_global_figures():
    reliability(measured())
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
