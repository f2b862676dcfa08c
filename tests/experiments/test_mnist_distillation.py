"""MNIST by matching logits: the paper's set-up, and a figure that shows its numbers apart from ours."""

from __future__ import annotations

import pytest

from distill.config import AugmentConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import drawing
from experiments import mnist_distillation as subject

CONDITIONS = {
    subject.WITH_DROPOUT,
    subject.SMOOTHED,
    subject.HARD,
    subject.WITH_BOTH,
    subject.OF_LABELS,
    subject.OF_DROPOUT,
    subject.OF_SMOOTHED,
    subject.OF_HARD,
    subject.OF_BOTH,
}


def by_condition(scale, data: str, seed: int = 0) -> dict[str, TeacherConfig | StudentConfig]:
    runs = subject.runs(scale, data)
    return {label.condition: config for label, config in runs.items() if label.seed == seed}


def test_the_papers_set_up():
    runs = by_condition("paper", "mnist")
    assert runs.keys() == CONDITIONS
    dropout, smoothed = runs[subject.WITH_DROPOUT], runs[subject.SMOOTHED]
    assert isinstance(smoothed, TeacherConfig)
    assert isinstance(dropout, TeacherConfig)
    assert smoothed.model.kwargs == {"widths": [1200, 1200], "init_std": 0.03}
    assert dropout.model.kwargs == {**smoothed.model.kwargs, "dropout": 0.5, "input_dropout": 0.2}
    assert (dropout.loss.smoothing, smoothed.loss.smoothing) == (0, 0.1)
    assert dropout.replace(model=smoothed.model).with_loss(smoothing=0.1) == smoothed
    assert runs[subject.HARD] == smoothed.with_loss(smoothing=0)
    assert runs[subject.WITH_BOTH] == dropout.with_loss(smoothing=0.1)
    assert smoothed.augment == AugmentConfig(pad=2)
    assert (smoothed.data.held_out, smoothed.data.limit) == (0, None), "all 60,000 images train"
    optim, schedule = smoothed.optim, smoothed.schedule
    assert (optim.name, optim.lr, optim.head_lr, optim.momentum) == ("momentum", 0.1, 0.1, 0.9)
    assert (optim.kwargs, optim.weight_decay, optim.clip) == ({}, 0, None)
    assert (schedule.name, schedule.epochs, schedule.min_lr) == ("linear", 100, 0)


@pytest.mark.parametrize("scale", ["smoke", "quick", "short", "paper"])
@pytest.mark.parametrize("data", ["digits", "fashion-mnist", "mnist"])
def test_students_differ_in_their_targets_alone(scale, data):
    runs = by_condition(scale, data)
    of_labels = runs[subject.OF_LABELS]
    assert isinstance(of_labels, StudentConfig)
    assert of_labels.loss.alpha == 0
    assert of_labels.augment == AugmentConfig()
    for condition, teacher in (
        (subject.OF_DROPOUT, subject.WITH_DROPOUT),
        (subject.OF_SMOOTHED, subject.SMOOTHED),
        (subject.OF_HARD, subject.HARD),
        (subject.OF_BOTH, subject.WITH_BOTH),
    ):
        student = runs[condition]
        assert isinstance(student, StudentConfig)
        assert student.cache is not None
        assert student.cache.teacher == runs[teacher]
        assert (student.cache.views, student.cache.augment) == (1, AugmentConfig()), "untranslated images"
        assert (student.loss.soft, student.loss.alpha) == ("logit-matching", 0.6)
        assert student.replace(cache=None, loss=of_labels.loss) == of_labels


def test_colours_tell_the_targets_apart():
    assert {name: drawing.smoothing(name) for name in CONDITIONS if "ε" in name} == {
        **dict.fromkeys((subject.SMOOTHED, subject.WITH_BOTH, subject.OF_SMOOTHED, subject.OF_BOTH), 0.1),
        **dict.fromkeys((subject.HARD, subject.OF_HARD), 0),
    }


def test_published_accuracies_are_one_minus_the_printed_errors():
    printed: dict[str, dict[str | None, float]] = {}
    for found in subject.PAPER:
        assert found.measure == "accuracy"
        assert isinstance(found.value, float)
        printed.setdefault(found.source.split()[0], {})[found.condition] = 1 - found.value
    assert printed["Müller"] == pytest.approx(
        {
            subject.WITH_DROPOUT: 0.0067,
            subject.SMOOTHED: 0.0059,
            subject.OF_DROPOUT: 0.0074,
            subject.OF_SMOOTHED: 0.0091,
        }
    )
    errors = {subject.WITH_DROPOUT: 67, subject.OF_DROPOUT: 74, subject.OF_LABELS: 146}
    assert printed["Hinton"] == pytest.approx({condition: count / 10_000 for condition, count in errors.items()})


def measured(seeds: int) -> Table:
    table = Table()
    for label in subject.runs("quick", "fashion-mnist"):
        if label.seed < seeds:
            shift = 0.01 * ("student" in label.condition) + 0.001 * label.seed
            table.values[label] = {"accuracy": 0.9 - shift}
    return table


def test_dots_are_errors_in_percent():
    ours, theirs = subject.draw(measured(3))["errors"].axes
    assert [text.get_text() for text in ours.get_yticklabels()][:2] == [subject.WITH_DROPOUT, subject.SMOOTHED]
    dots = [line for line in ours.lines if line.get_marker() == "."]
    assert [list(line.get_xdata()) for line in dots] == [
        pytest.approx(errors) for errors in 4 * [[10, 10.1, 10.2]] + 5 * [[11, 11.1, 11.2]]
    ]
    means = [container.lines[0].get_xdata()[0] for container in ours.containers]
    assert means == pytest.approx(4 * [10.1] + 5 * [11.1])
    hollow = [line for line in theirs.lines if line.get_marker() in "Ds" and len(line.get_xdata())]
    assert sorted(float(line.get_xdata()[0]) for line in hollow) == pytest.approx(
        [0.59, 0.67, 0.67, 0.74, 0.74, 0.91, 1.46]
    )
    assert all(line.get_fillstyle() == "none" for line in hollow)
    low, high = theirs.get_xlim()
    assert low < 0.59
    assert high > 1.46


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    table = measured(seeds)
    table.diverged[Label(subject.OF_LABELS, seeds)] = "accuracy at chance (0.100)"
    figure = subject.draw(table)["errors"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
