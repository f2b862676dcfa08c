"""Stored views: students differ in nothing but how many of one cache they read."""

import pytest

from distill.config import AugmentConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import drawing, patience
from experiments.base import view_program

DATA = "digits", "mnist", "fashion-mnist", "cifar10", "cifar100"
SCALES = "smoke", "quick", "paper"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_students_differ_in_their_views_alone(scale, data):
    runs = patience.runs(scale, data)
    for seed in {label.seed for label in runs}:
        for smoothing in patience.SMOOTHINGS:
            students = [
                config
                for label, config in runs.items()
                if (label.seed, drawing.smoothing(label.condition)) == (seed, smoothing)
                and isinstance(config, StudentConfig)
            ]
            plain, *consistent = students
            fresh = consistent[-1]
            assert fresh.cache is not None
            # Each epoch shows a view that no other has, and the largest number of stored views is fewer.
            assert fresh.cache.views == fresh.schedule.epochs > max(patience.VIEWS)
            assert [student.views for student in consistent] == [*patience.VIEWS, None]
            assert all(student.replace(views=None) == fresh for student in consistent)
            assert plain.cache == fresh.cache.replace(augment=AugmentConfig(), views=1)
            assert plain.replace(cache=fresh.cache) == fresh


def test_the_teacher_knows_the_views_of_its_cache():
    for config in patience.runs("quick", "fashion-mnist").values():
        if isinstance(config, TeacherConfig):
            assert config.augment == AugmentConfig(pad=2, flip=True)
        elif config.cache and config.cache.views > 1:
            (teacher,) = config.cache.teachers
            assert config.cache.augment == teacher.augment
    assert view_program("mnist") == AugmentConfig(pad=2)


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in patience.runs("quick", "digits"):
        if label.seed < seeds:
            value = 0.8 + 0.01 * label.seed
            table.values[label] = {"accuracy": value, "kl": 1 - value}
    return table


def test_points_stand_at_powers_of_two():
    table = measured()
    for smoothing, fresh in ((0, 0.97), (0.1, 0.95)):
        for seed in range(3):
            condition = f"student of ε={smoothing:g}, a view per epoch"
            table.values[Label(condition, seed)]["accuracy"] = fresh
    accuracy, kl = patience.draw(table)["stored_views"].axes
    hard, smoothed = accuracy.containers
    assert list(hard.lines[0].get_xdata()) == pytest.approx([0, 1, 2, 4, 6], abs=0.1)
    assert list(hard.lines[0].get_ydata()) == pytest.approx([81, 81, 81, 81, 97])
    assert smoothed.lines[0].get_ydata()[-1] == pytest.approx(95)
    assert [text.get_text() for text in kl.get_xticklabels()] == ["1", "2", "4", "16", "one per\nepoch"]


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    figure = patience.draw(measured(seeds))["stored_views"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
