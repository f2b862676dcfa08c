"""Figures 3 and 4: what is trained, what is refused, and what is drawn of which table."""

from __future__ import annotations

import pytest

from distill.errors import UserError
from distill.reports.experiment import Label, Scale, Table
from experiments import fig3_sequence
from experiments.fig3_sequence import HARD, SMOOTHED, TEMPERATURES


@pytest.mark.parametrize("scale", ["smoke", "quick", "short", "paper"])
def test_pairs_differ_in_smoothing_alone(scale: Scale):
    runs = fig3_sequence.runs(scale, fig3_sequence.DATA[scale])
    seeds = {label.seed for label in runs}
    assert len(runs) == 2 * len(seeds)
    assert len(seeds) >= (1 if scale == "smoke" else 3)
    for seed in seeds:
        hard, smoothed = runs[Label(HARD, seed)], runs[Label(SMOOTHED, seed)]
        assert hard.with_loss(smoothing=0.1) == smoothed
    assert {claim.condition for claim in fig3_sequence.CLAIMS} <= {HARD, SMOOTHED}


@pytest.mark.parametrize("ask", [fig3_sequence.runs, fig3_sequence.probes])
def test_other_data_are_refused(ask):
    with pytest.raises(UserError, match=r"^data = 'digits': expected translation"):
        ask("smoke", "digits")


def table(seeds: int = 3) -> Table:
    """Networks of known curves: that of hard labels best at T=2, that of smoothed ones at T=1."""
    filled = Table(classes=("a", "b"))
    for seed in range(seeds):
        for condition, best in ((HARD, 2.0), (SMOOTHED, 1.0)):
            label, shift = Label(condition, seed), 0.01 * seed
            filled.values[label] = {"ece": 0.02, "scaled_ece": 0.01, "scaled_temperature": 1.5, "oracle_nll": 0.3}
            filled.curves[label] = {
                "temperatures": list(TEMPERATURES),
                "nll_by_temperature": [0.4 + (at - best) ** 2 / 10 + shift for at in TEMPERATURES],
                "ece_by_temperature": [0.02 + abs(at - best) / 50 + shift for at in TEMPERATURES],
                "quality_temperatures": [0.5, 1.0, 2.0],
                "bleu_by_temperature": [0.5 - shift, 0.6 - shift, 0.55 - shift],
            }
            for prefix in ("", "scaled_"):
                filled.curves[label] |= {
                    f"{prefix}reliability_count": [100.0, 200.0],
                    f"{prefix}reliability_confidence": [0.3, 0.9],
                    f"{prefix}reliability_accuracy": [0.25, 0.85],
                }
    return filled


def test_figures_show_the_curves_and_the_true_distribution():
    drawn = fig3_sequence.draw(table())
    assert list(drawn) == ["reliability", "ece_and_bleu", "nll"]
    assert all(figure.get_label() for figure in drawn.values())
    (axes,) = drawn["nll"].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines["true distribution"].get_ydata()) == [0.3, 0.3]
    # The mean over seeds 0, 1, 2 is that of seed 1.
    found = lines[HARD].get_ydata()
    assert min(found) == pytest.approx(0.41)
    assert TEMPERATURES[list(found).index(min(found))] == 2
    bleu = {line.get_label(): list(line.get_ydata()) for line in drawn["ece_and_bleu"].axes[1].get_lines()}
    assert bleu[SMOOTHED] == pytest.approx([49, 59, 54])


def test_an_empty_table_and_a_diverged_run_are_drawn():
    fig3_sequence.draw(Table())
    partial = table()
    gone = Label(HARD, 0)
    del partial.values[gone], partial.curves[gone]
    partial.diverged[gone] = "accuracy at chance"
    (axes,) = fig3_sequence.draw(partial)["nll"].axes
    found = next(line for line in axes.get_lines() if line.get_label() == HARD).get_ydata()
    assert min(found) == pytest.approx(0.415)
