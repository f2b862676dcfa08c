"""Section 4 at one γ: the students that it adds, and its figure of what is there."""

from __future__ import annotations

import pytest

from distill.config import StudentConfig
from distill.reports.experiment import Label, Table
from experiments import matched_smoothing as subject
from experiments import mnist_distillation as section_4


@pytest.mark.parametrize("scale", ["smoke", "quick", "paper"])
def test_it_adds_students_that_differ_in_their_soft_term_alone(scale):
    runs, theirs = subject.runs(scale, "mnist"), section_4.runs(scale, "mnist")
    seeds = {label.seed for label in runs}
    assert len(seeds) == {"smoke": 1, "quick": 5, "paper": 3}[scale]
    assert runs.items() >= {label: config for label, config in theirs.items() if label.seed in seeds}.items()
    added = runs.keys() - theirs.keys()
    gammas = (0.6,) if scale == "smoke" else (0.1, 0.3, 0.6)
    assert added == {
        Label(subject.at_gamma(student, gamma), seed)
        for student in section_4.STUDENTS
        for gamma in gammas
        for seed in seeds
    }
    for label in added:
        taught, twin = runs[label], theirs[label._replace(condition=label.condition.rpartition(", ")[0])]
        assert isinstance(taught, StudentConfig)
        assert isinstance(twin, StudentConfig)
        assert (taught.loss.soft, taught.loss.alpha) == ("kl", 0.6)
        assert f"γ={taught.loss.equivalent_smoothing:g}" in label.condition
        assert taught == twin.replace(loss=taught.loss)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    table = Table()
    for label in subject.runs("quick", "fashion-mnist"):
        if label.seed < seeds:
            table.values[label] = {"accuracy": 0.9 - 0.01 * label.seed}
    figure = subject.draw(table)["errors"]
    figure.canvas.draw()
    (axes,) = figure.axes
    assert len(axes.containers) == (4 if seeds else 0), "a line per teacher"
    if seeds == 2:
        assert axes.containers[0].lines[0].get_ydata() == pytest.approx([10.5] * 4)
