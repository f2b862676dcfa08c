"""Which smoothing for what use: the picks against plain oracles, and what the seeds cannot tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from distill.metrics.choice import CHOSEN_BY, choose, listed

SEEDS = range(5)
_NOISE = (0.0, 0.001, -0.001, 0.002, -0.002)


def of(accuracy: float, ece: float, variance: float, seeds=SEEDS, **others: float) -> dict[str, dict[int, float]]:
    """Measures of one strength; what seeds share, as they share initial weights, is the same for all strengths."""
    means = {"accuracy": accuracy, "ece": ece, "interclass_variance_relative": variance, **others}
    return {name: {seed: mean + _NOISE[seed] for seed in seeds} for name, mean in means.items()}


def wobbling(measures: dict[str, dict[int, float]], name: str, size: float) -> dict[str, dict[int, float]]:
    """The same, with one measure up and down by `size` around its mean, against the seeds' order."""
    signs = (1, -1, 0, -1, 1)
    return measures | {name: {seed: value + size * signs[seed] for seed, value in measures[name].items()}}


THREE = {
    0.0: of(0.80, 0.10, 0.50),
    0.05: of(0.90, 0.02, 0.30),
    0.1: wobbling(of(0.90, 0.05, 0.20), "accuracy", 0.01),
    0.2: wobbling(of(0.901, 0.15, 0.10), "accuracy", 0.005),
}


def test_three_uses_three_answers():
    found = choose(THREE)
    assert {use: choice.smoothing for use, choice in found.items()} == {
        "accuracy": 0.2,
        "calibration": 0.05,
        # ε=0 has more to teach, but is credibly less accurate; 0.05 is not.
        "teaching": 0.05,
    }
    assert {use: choice.measure for use, choice in found.items()} == CHOSEN_BY
    assert found["accuracy"].value == pytest.approx(0.901)
    assert found["calibration"].value == pytest.approx(0.02)
    assert found["teaching"].value == pytest.approx(0.30)


def test_undecided_is_what_the_paired_interval_does_not_exclude():
    wide = {**THREE, 0.2: wobbling(THREE[0.2], "accuracy", 0.02)}
    found = choose(wide)
    assert found["accuracy"].smoothing == 0.2
    assert found["accuracy"].undecided == (0.05, 0.1)
    assert "ε = 0.05, 0.1" in listed(found["accuracy"].undecided)


def test_a_credibly_less_accurate_strength_teaches_nobody_however_much_it_knows():
    found = choose({0.0: of(0.80, 0.1, 0.9), 0.1: wobbling(of(0.90, 0.1, 0.2), "accuracy", 0.01)})
    assert found["teaching"].smoothing == 0.1
    assert "Less accurate: ε = 0." in found["teaching"].reason
    close = choose({0.0: of(0.895, 0.1, 0.9), 0.1: wobbling(of(0.90, 0.1, 0.2), "accuracy", 0.01)})
    assert close["teaching"].smoothing == 0.0, "half a point, not told apart"
    for choice in (found["teaching"], close["teaching"]):
        assert "not what students learn" in choice.reason
        assert "train students" in choice.reason


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds):
    few = {
        smoothing: {name: {seed: values[seed] for seed in range(seeds)} for name, values in measures.items()}
        for smoothing, measures in THREE.items()
    }
    for use, choice in choose(few).items():
        assert {choice.smoothing, *choice.undecided} == set(few), use
        assert "nan" not in choice.reason
    assert choose(few)["teaching"].smoothing == choose(few)["accuracy"].smoothing, "0 may be less accurate"
    assert "Fewer than 3 seeds" in choose(few)["teaching"].reason


def test_of_equal_strengths_the_weakest_is_taken_and_the_others_are_told():
    alike = {smoothing: of(0.9, 0.1, 0.3) for smoothing in (0.3, 0.1, 0.2)}
    for choice in choose(alike).values():
        assert choice.smoothing == 0.1
        assert choice.undecided == (0.2, 0.3)


def test_only_one_strength():
    for choice in choose({0.1: of(0.9, 0.1, 0.3)}).values():
        assert choice.smoothing == 0.1
        assert choice.undecided == ()


def test_a_strength_with_fewer_seeds_is_not_recommended_and_costs_the_others_nothing():
    best = of(0.99, 0.0, 0.9, seeds=(0, 1, 2, 3))
    with_it, without = choose({**THREE, 0.4: best}), choose(THREE)
    for use, choice in with_it.items():
        told = " Not compared, since it has fewer seeds: ε = 0.4."
        assert choice.reason == without[use].reason + told
        assert (choice.smoothing, choice.value, choice.undecided) == (
            without[use].smoothing,
            without[use].value,
            without[use].undecided,
        )


def test_where_every_strength_lacks_another_seed_the_shared_ones_are_compared():
    first, second = of(0.9, 0.1, 0.3, seeds=(0, 1, 2, 3)), of(0.8, 0.2, 0.2, seeds=(1, 2, 3, 4))
    first["accuracy"][0] = 0.0  # would lose by its own mean
    found = choose({0.0: first, 0.1: second})["accuracy"]
    assert found.smoothing == 0.0
    assert found.value == pytest.approx(0.9 + np.mean([_NOISE[seed] for seed in (1, 2, 3)]))
    apart = choose({0.0: of(0.9, 0.1, 0.3, seeds=(0, 1)), 0.1: of(0.8, 0.2, 0.2, seeds=(2, 3))})
    assert apart["accuracy"].smoothing == 0.0
    assert apart["accuracy"].undecided == (0.1,), "no seed has both"


def test_what_accuracy_gains_is_told():
    reason = choose(THREE)["accuracy"].reason
    assert "90.10 %" in reason
    # Differences 10.1 + (0.5, -0.5, 0, -0.5, 0.5) points: deviation 0.5, t of 4 degrees of freedom 2.776.
    assert "without smoothing 80.00 % (+10.10 points, 95 % interval +9.48 to +10.72)" in reason
    assert "without smoothing" not in choose({0.1: THREE[0.1], 0.2: THREE[0.2]})["accuracy"].reason


def test_calibration_says_what_nll_would_choose():
    given = {smoothing: measures | {"nll": measures["ece"]} for smoothing, measures in THREE.items()}
    assert "it would be the same" in choose(given)["calibration"].reason
    given[0.2]["nll"] = dict.fromkeys(SEEDS, 0.0)
    assert "it would be ε = 0.2" in choose(given)["calibration"].reason
    assert "NLL" not in choose(THREE)["calibration"].reason


@pytest.mark.parametrize(
    ("scaled", "says"),
    [
        (0.005, "which is less: for calibration alone no smoothing is needed"),
        (0.08, "which is more: here smoothing calibrates better"),
        (0.02, "may not be needed"),
    ],
)
def test_calibration_is_compared_with_temperature_scaling_of_the_hard_network(scaled, says):
    hard = wobbling(of(0.80, 0.10, 0.50, scaled_ece=scaled, scaled_temperature=2.0), "scaled_ece", 0.001)
    reason = choose({**THREE, 0.0: hard})["calibration"].reason
    assert says in reason
    assert "by T = 2.00" in reason


def test_scaling_that_is_worse_than_no_smoothing_at_all_does_not_praise_smoothing():
    hard = wobbling(of(0.80, 0.01, 0.50, scaled_ece=0.08), "scaled_ece", 0.001)
    found = choose({**THREE, 0.0: hard})["calibration"]
    assert found.smoothing == 0
    assert "which is more." in found.reason


def test_two_classes_have_no_variance_to_choose_by():
    none = {name: dict.fromkeys(SEEDS, 0.0) for name in ("interclass_variance_relative",)}
    found = choose({0.1: of(0.9, 0.1, 0) | none, 0.0: of(0.9, 0.1, 0) | none})["teaching"]
    assert found.smoothing == 0
    assert found.reason.startswith("No strength has any inter-class variance")


def test_what_is_missing_is_said():
    with pytest.raises(ValueError, match="one strength"):
        choose({})
    for name in CHOSEN_BY.values():
        lacking = {key: values for key, values in THREE[0.1].items() if key != name}
        with pytest.raises(ValueError, match=rf"no {name} of ε=0.1"):
            choose({**THREE, 0.1: lacking})


_value = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 6))


@st.composite
def _measured(draw):
    smoothings = draw(st.lists(st.floats(0, 0.9), min_size=1, max_size=4, unique=True))
    seeds = draw(st.lists(st.integers(0, 99), min_size=1, max_size=5, unique=True))
    return {
        smoothing: {name: {seed: draw(_value) for seed in seeds} for name in CHOSEN_BY.values()}
        for smoothing in smoothings
    }


@given(_measured())
def test_picks_are_the_best_means_and_do_not_depend_on_order(measured):
    found = choose(measured)

    def means(name: str) -> dict[float, float]:
        return {smoothing: math.fsum(m[name].values()) / len(m[name]) for smoothing, m in measured.items()}

    assert found["accuracy"].value == pytest.approx(max(means("accuracy").values()))
    assert found["calibration"].value == pytest.approx(min(means("ece").values()))
    assert found["teaching"].value <= max(means("interclass_variance_relative").values()) + 1e-12
    backwards = {
        smoothing: {name: dict(reversed(values.items())) for name, values in reversed(measures.items())}
        for smoothing, measures in reversed(measured.items())
    }
    assert choose(backwards) == found
    for choice in found.values():
        assert choice.smoothing not in choice.undecided
        assert {choice.smoothing, *choice.undecided} <= measured.keys()


@given(_measured())
def test_undecided_agrees_with_the_paired_t_test(measured):
    found = choose(measured)["accuracy"]
    best = measured[found.smoothing]["accuracy"]
    for smoothing, measures in measured.items():
        other = measures["accuracy"]
        difference = np.array([best[seed] - other[seed] for seed in best])
        if smoothing == found.smoothing or np.ptp(difference) < 1e-9:
            continue  # no spread, no t-test
        p = ttest_rel(list(best.values()), [other[seed] for seed in best]).pvalue if len(best) >= 3 else 1.0
        if abs(p - 0.05) > 1e-6:
            assert (smoothing in found.undecided) == (p > 0.05)
