"""Prediction of gains: against slow oracles, closed forms, and noise, which must come out at chance."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from experiments.prediction import chosen_without, family_error, left_out_concordance, rank_correlation

FAMILIES = ["base", *"aaaa", *"bbb", *"cccc"]
GAIN = np.array([0.0, 1, 2, 3, 4, 0.5, 1.5, 2.5, 5, 6, 7, 8])


def slow(measures, gain, families):
    """Concordance of the measure that each pair's other families would choose, one pair at a time."""
    points, pairs, chosen = 0.0, 0, []
    for i, j in combinations(range(len(gain)), 2):
        if gain[i] == gain[j]:
            continue
        rows = [k for k in range(len(gain)) if families[k] not in (families[i], families[j])]
        best, which = 0.0, 0
        for index, measure in enumerate(measures):
            known = len({measure[k] for k in rows}) > 1 and len({gain[k] for k in rows}) > 1
            found = (
                float(np.asarray(spearmanr([measure[k] for k in rows], [gain[k] for k in rows]))[0])
                if known
                else 0.0
            )
            if abs(found) > abs(best) + 1e-12:
                best, which = found, index
        towards = np.sign(best) * (measures[which][i] - measures[which][j]) * (gain[i] - gain[j])
        points += 0.5 if abs(best) < 1e-12 or towards == 0 else float(towards > 0)
        pairs += 1
        chosen.append(which)
    return points / pairs, chosen


@pytest.mark.parametrize("seed", range(6))
def test_against_pairs_one_at_a_time(seed):
    rng = np.random.default_rng(seed)
    families = [str(family) for family in rng.integers(0, 4, size=14)]
    gain = rng.integers(0, 9, size=14).astype(float)  # with ties
    measures = rng.integers(0, 6, size=(3, 14)) + np.outer([0, 0.5, -1], gain)
    for found, measure in zip(left_out_concordance(measures, gain, families), measures, strict=True):
        assert found == pytest.approx(slow([measure], gain, families)[0])
        assert float(left_out_concordance(measure, gain, families)) == found
    expected, chosen = slow(measures, gain, families)
    names = dict(zip("xyz", measures, strict=True))
    result = chosen_without(names, gain, families)
    assert result.concordance == pytest.approx(expected)
    assert result.shares == pytest.approx(
        {name: chosen.count(index) / len(chosen) for index, name in enumerate("xyz") if index in chosen}
    )


def test_rank_correlation_is_spearmans():
    rng = np.random.default_rng(0)
    measures, gain = rng.integers(0, 5, size=(4, 20)).astype(float), rng.integers(0, 5, size=20).astype(float)
    expected = [spearmanr(measure, gain)[0] for measure in measures]
    assert rank_correlation(measures, gain) == pytest.approx(expected)


def test_what_orders_alike_is_perfect_and_its_sign_is_learned():
    for measure in (GAIN, -GAIN, np.exp(-GAIN)):
        assert left_out_concordance(measure, GAIN, FAMILIES) == 1
        assert chosen_without({"it": measure}, GAIN, FAMILIES) == (1, {"it": 1})
        assert family_error(measure, GAIN, [*"aabbccddeeff"]) == 0
    assert rank_correlation(GAIN, GAIN) == pytest.approx(1)
    assert rank_correlation(-GAIN, GAIN) == pytest.approx(-1)


def test_what_knows_nothing_is_chance():
    constant = np.ones_like(GAIN)
    assert left_out_concordance(constant, GAIN, FAMILIES) == 0.5
    assert math.isnan(rank_correlation(constant, GAIN))
    # Where there is no other family, nothing can teach a sign.
    assert left_out_concordance(GAIN[:2], GAIN[:2], ["a", "b"]) == 0.5
    assert left_out_concordance(GAIN[:3], GAIN[:3], ["a"] * 3) == 0.5


def test_noise_is_at_chance_only_if_the_families_of_both_are_left_out():
    rng = np.random.default_rng(0)
    families = np.array([*"aaabbbcccdddd"])
    found, with_choice, leaking = [], [], []
    for _ in range(30):
        gain, measures = rng.normal(size=13), rng.normal(size=(100, 13))
        found.append(left_out_concordance(measures, gain, [*families]).mean())
        some = dict(zip("vwxyz", measures, strict=False))
        with_choice.append(chosen_without(some, gain, [*families]).concordance)
        leaking.append(np.mean([_with_one_left_out(measures, gain, families, family) for family in "abcd"]))
    for values in (found, with_choice):
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / math.sqrt(30)
    assert np.mean(leaking) > 0.5 + 4 * np.std(leaking) / math.sqrt(30)


def _with_one_left_out(measures, gain, families, family):
    """Mean concordance on pairs that touch a family, with the sign learned on all teachers outside it."""
    inside = families == family
    signed = np.sign(rank_correlation(measures[:, ~inside], gain[~inside]))[:, None] * measures
    first, second = np.triu_indices(len(gain), k=1)
    touching = inside[first] | inside[second]
    first, second = first[touching], second[touching]
    return ((signed[:, first] > signed[:, second]) == (gain[first] > gain[second])).mean()


def test_a_measure_that_turns_around_is_worse_than_chance():
    gain = np.array([0.0, 1, 2, 0.1, 1.1, 2.1, 0.2, 1.2, 2.2])
    families = [*"aaabbbccc"]
    # Rising in a and b, falling in c: all pairs of c are wrong.
    turned = np.where(np.array(families) == "c", -gain, gain)
    assert left_out_concordance(turned, gain, families) < 0.5


def test_the_choice_is_made_on_other_families():
    better = np.array([0.0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32])
    families = [*"aaabbbcccddd"]
    # Perfect but in d, where it is reversed; so it is chosen where d cannot be seen.
    fooled = better.copy()
    fooled[-3:] = fooled[-3:][::-1]
    fair = better + np.array([0, 15, -5, 0, 0, 15, -15, 0, 0, 0, 4, 4.0])
    result = chosen_without({"fooled": fooled, "fair": fair}, better, families)
    assert result.concordance == pytest.approx(slow([fooled, fair], better, families)[0])
    assert set(result.shares) <= {"fooled", "fair"}
    assert sum(result.shares.values()) == pytest.approx(1)
    within_d = chosen_without({"fooled": fooled}, better, families).concordance
    assert within_d == pytest.approx(1 - 3 / 66)


@given(
    st.lists(
        st.tuples(st.integers(-20, 20), st.integers(-20, 20), st.sampled_from("abcd")), min_size=2, max_size=12
    ),
    st.randoms(use_true_random=False),
)
@settings(deadline=None, max_examples=40)
def test_only_the_order_counts(teachers, random):
    measure, gain = (np.array([teacher[part] for teacher in teachers], dtype=float) for part in (0, 1))
    families = [teacher[2] for teacher in teachers]
    found = float(left_out_concordance(measure, gain, families))
    if len(set(gain)) < 2:
        assert math.isnan(found)
        return
    assert 0 <= found <= 1

    def same(*arguments):
        assert float(left_out_concordance(*arguments)) == pytest.approx(found)

    same(measure**3 + measure, gain, families)
    same(measure, np.exp(gain / 10), families)
    same(-measure, gain, families)
    same(measure, -gain, families)
    same(measure, gain, [f"family {name}" for name in families])
    order = random.sample(range(len(gain)), len(gain))
    same(measure[order], gain[order], [families[row] for row in order])


def test_error_over_families_against_its_definition():
    rng = np.random.default_rng(3)
    measures, gain = rng.normal(size=(2, 12)) + np.outer([0, 1], GAIN), GAIN
    found = family_error(measures, gain, FAMILIES)
    for error, measure in zip(found, measures, strict=True):
        without = []
        for family in "base", "a", "b", "c":
            rows = [row for row in range(12) if FAMILIES[row] != family]
            without.append(slow([measure[rows]], gain[rows], [FAMILIES[row] for row in rows])[0])
        spread = sum((each - sum(without) / 4) ** 2 for each in without)
        assert error == pytest.approx(math.sqrt(3 / 4 * spread))
    assert np.isnan(family_error(measures, gain, ["a"] * 12)).all()


def test_gains_that_do_not_differ_say_nothing():
    assert math.isnan(left_out_concordance(GAIN, np.ones(12), FAMILIES))
    assert np.isnan(left_out_concordance(np.stack([GAIN, GAIN]), np.ones(12), FAMILIES)).all()
    nothing = chosen_without({"it": GAIN}, np.ones(12), FAMILIES)
    assert math.isnan(nothing.concordance)
    assert nothing.shares == {}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="one per teacher"):
        left_out_concordance(GAIN, GAIN[1:], FAMILIES)
    with pytest.raises(ValueError, match="one per teacher"):
        left_out_concordance(GAIN, GAIN, FAMILIES[1:])
    with pytest.raises(ValueError, match="not finite"):
        rank_correlation(np.where(GAIN == 3, np.nan, GAIN), GAIN)
    with pytest.raises(ValueError, match="one or more"):
        chosen_without({}, GAIN, FAMILIES)
