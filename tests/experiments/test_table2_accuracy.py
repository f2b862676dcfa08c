"""Accuracy with and without smoothing: pairs of networks that differ in smoothing alone."""

import pytest

from distill.config import StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from distill.store.key import key
from experiments import dark_knowledge, drawing, fig2_calibration, table2_accuracy
from experiments.base import setting_of_figures
from experiments.table2_accuracy import CLAIMS, PAPER, STUDENT, TEACHER

DATA = "digits", "mnist", "fashion-mnist", "cifar10", "cifar100"
SCALES = "smoke", "quick", "short", "paper"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_pairs_differ_in_smoothing_alone(scale, data):
    runs = table2_accuracy.runs(scale, data)
    for seed in range(setting_of_figures(data, scale).seeds):
        hard, smoothed = (runs[Label(condition, seed)] for condition in TEACHER)
        assert isinstance(hard, TeacherConfig)
        assert hard.loss.smoothing == 0
        assert hard.with_loss(smoothing=0.1) == smoothed
        if (data, scale) == ("cifar100", "paper"):
            continue
        hard, smoothed = (runs[Label(condition, seed)] for condition in STUDENT)
        assert isinstance(hard, StudentConfig)
        assert hard.cache is None
        assert hard.loss.smoothing == 0
        assert hard.replace(loss=hard.loss.replace(smoothing=0.1)) == smoothed


def test_the_student_is_left_out_where_the_paper_has_only_resnet_56():
    runs = table2_accuracy.runs("paper", "cifar100")
    assert {label.condition for label in runs} == set(TEACHER)
    assert {config.model.name for config in runs.values()} == {"resnet56_preact"}
    of_cifar10 = table2_accuracy.runs("paper", "cifar10").items()
    models = {(label.condition, config.model.name) for label, config in of_cifar10}
    assert models == {(name, "resnet56_preact") for name in TEACHER} | {(name, "alexnet") for name in STUDENT}


def test_networks_are_shared_with_other_experiments():
    shared = dark_knowledge.runs("quick", "digits")
    runs = table2_accuracy.runs("quick", "digits")
    assert all(key(shared[label]) == key(config) for label, config in runs.items())
    teachers = fig2_calibration.runs("quick", "fashion-mnist")
    runs = table2_accuracy.runs("quick", "fashion-mnist")
    assert all(teachers[label] == config for label, config in runs.items() if label.condition in TEACHER)


def test_claims_and_published_numbers_name_what_is_measured():
    pairs = [(claim.condition, claim.versus) for claim in CLAIMS]
    assert pairs == [(TEACHER[1], TEACHER[0])]
    assert {(claim.measure, claim.direction) for claim in CLAIMS} == {("accuracy", "higher")}
    for entry in PAPER:
        assert entry.measure == "accuracy"
        assert entry.condition in (STUDENT if "AlexNet" in entry.source else TEACHER)
        assert entry.condition in (TEACHER[0], STUDENT[0]) or "ε=0.1" in entry.source
        assert isinstance(entry.value, float)
        assert 0.7 < entry.value < 0.9, "a share"
    assert len({entry.source for entry in PAPER}) == len(PAPER)


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in table2_accuracy.runs("quick", "digits"):
        if label.seed < seeds:
            better = 0.02 * (label.condition in (TEACHER[1], STUDENT[1]))
            table.values[label] = {"accuracy": 0.8 + better + 0.01 * label.seed}
    return table


def test_the_networks_of_one_seed_are_joined():
    figure = table2_accuracy.draw(measured())["accuracy"]
    assert [axes.get_title() for axes in figure.axes] == ["teacher", "student, from labels alone"]
    for axes in figure.axes:
        joined = [list(line.get_ydata()) for line in axes.lines if list(line.get_xdata()) == [0, 1]]
        assert joined == [pytest.approx([80 + seed, 82 + seed]) for seed in range(3)]
        hard, smoothed = (container.lines[0] for container in axes.containers)
        assert (*hard.get_ydata(), *smoothed.get_ydata()) == pytest.approx((81, 83))
        assert (hard.get_color(), smoothed.get_color()) == (drawing.HARD, drawing.SMOOTHED[0])


@pytest.mark.parametrize("seeds", [0, 1, 2])
@pytest.mark.parametrize("missing", [(), STUDENT, TEACHER[:1]])
def test_draws_what_is_there(seeds, missing):
    table = measured(seeds)
    for label in list(table.values):
        if label.condition in missing:
            del table.values[label]
    figure = table2_accuracy.draw(table)["accuracy"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
    assert len(figure.axes) == (1 if missing == STUDENT or seeds == 0 else 2)
