"""Theory beside trained networks: what was reached is set against what could be."""

from __future__ import annotations

import math

import pytest

from distill.config import TeacherConfig
from distill.metrics.verdict import judge
from distill.reports.experiment import Label, Table
from distill.reports.notebook import run_cells
from experiments import smoothing_theory as theory

CLASSES = tuple("0123456789")


def measured(seeds: int = 3, reach: float = 1.0) -> Table:
    """Networks that reach this share of the optimum, a little more or less by seed."""
    table = Table(classes=CLASSES)
    for seed in range(seeds):
        table.values[Label(theory.HARD, seed)] = {"gap_train": 9 + 0.1 * seed, "wrong_mass_train": 0.001}
        for teacher, (smoothing, convention) in theory.LOSSES.items():
            share = reach + 0.001 * (seed - 1)
            uniform = smoothing * 10 / 9 if convention == "others" else smoothing
            gap = share * theory.optimum(smoothing, convention, 10)
            table.values[Label(teacher, seed)] = {"gap_train": gap, "wrong_mass_train": uniform}
    return table


def verdicts(table: Table) -> dict[str, str]:
    table.values |= theory.derived(table)
    return {
        claim.id: judge(
            table.by_seed(claim.condition, claim.measure),
            table.by_seed(claim.versus, claim.versus_measure or claim.measure),
            claim.direction,
        ).verdict
        for claim in theory.CLAIMS
    }


def test_optima_by_hand():
    found = [theory.optimum(smoothing, convention, 10) for smoothing, convention in theory.LOSSES.values()]
    assert found == pytest.approx([5.2523, 4.5109, 3.7136, 2.7726, 4.3944], abs=1e-4)
    shares = [theory.target(smoothing, convention, 10) for smoothing, convention in theory.LOSSES.values()]
    assert shares == pytest.approx([0.955, 0.91, 0.82, 0.64, 0.9])


def test_no_gap_counts_as_reached_for_both_conventions():
    low, high = sorted(theory.optimum(0.1, convention, 10) for convention in ("uniform", "others"))
    assert low * (1 + theory.TOLERANCE) < high * (1 - theory.TOLERANCE)


def test_a_training_that_reaches_the_optimum_and_one_that_does_not():
    assert set(verdicts(measured()).values()) == {"reproduced"}
    short = verdicts(measured(reach=0.95))
    assert {short[name] for name in short if name.startswith("reached-")} == {"contradicted"}
    assert {short[name] for name in short if name.startswith("not-passed-")} == {"reproduced"}
    long = verdicts(measured(reach=1.05))
    assert {long[name] for name in long if name.startswith("not-passed-")} == {"contradicted"}


def test_probability_of_the_label_is_that_of_its_target():
    found = theory.derived(measured())
    at = found[Label("training at ε=0.1 over the others", 0)]
    assert (at["reached_probability"], at["reached_ceiling"]) == (pytest.approx(0.9), pytest.approx(0.9))
    assert found[Label("training at ε=0.4", 1)]["reached_probability"] == pytest.approx(0.64)


def test_networks_differ_in_seed_and_loss_alone():
    runs = theory.runs("quick", "digits")
    assert len(runs) == 60
    for label, config in runs.items():
        assert isinstance(config, TeacherConfig)
        plain = config.with_loss(smoothing=0, smoothing_convention="uniform")
        assert plain == runs[Label(theory.HARD, label.seed)]
    assert {label.condition for label in runs} == {theory.HARD, *theory.LOSSES}


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_draws_what_is_there(seeds):
    table = measured(seeds)
    table.values |= theory.derived(table)
    figures = theory.draw(table)
    assert set(figures) == {"gap", "probability"}
    for figure in figures.values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")
        (axes,) = figure.axes
        assert sum(len(marks.get_offsets()) for marks in axes.collections) == 5 * seeds
    if seeds:
        (line,) = figures["gap"].axes[0].lines
        at = dict(zip(line.get_xdata().round(3), line.get_ydata(), strict=True))
        assert at[0.11] == pytest.approx(math.log(0.89 * 10 / 0.11 + 1))


def test_every_step_says_what_its_text_says():
    cells = run_cells(theory.CELLS)
    assert len({cell["title"] for cell in cells}) == len(cells) == 9
    said = {cell["title"]: cell["output"] for cell in cells}
    assert [cell["output"] for cell in cells] == [cell["output"] for cell in run_cells(theory.CELLS)]
    conventions, example, gradient, parts, optimum, hard, shrinking, penalties, temperature = said.values()
    assert "0.920" in conventions
    assert "uniform 0.125" in conventions
    assert example.count("0.47310783") == 2
    assert "equal to 1e-12: True" in gradient
    for line in parts.splitlines()[1:]:
        *three, total, loss = map(float, line.split()[1:])
        assert sum(three) == pytest.approx(total, abs=2e-6)
        assert total == pytest.approx(loss, abs=1e-9)
    for line in optimum.splitlines()[1:]:
        found, formula = map(float, line.split()[2:4])
        assert found == pytest.approx(formula, abs=1e-4)
    last, before = (list(map(float, line.split())) for line in hard.splitlines()[:-3:-1])
    assert last[1] - before[1] == pytest.approx(2.303, abs=0.01)
    assert last[2] == before[2] == 4.511
    assert "91.0 %" in shrinking
    right, wrong = penalties.split("wrong")
    numbers = {line[:18].strip(): line[19:].split() for line in right.splitlines()[1:]}
    assert numbers["smoothing"] == numbers["MaxSup"]
    numbers = {line[:18].strip(): line[19:].split() for line in wrong.splitlines()[1:]}
    assert numbers["smoothing"] != numbers["MaxSup"]
    assert temperature.count("2.197") == 3
