from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from distill.metrics.verdict import holm, interval, judge

CONDITION = {0: 0.91, 1: 0.90, 2: 0.92, 3: 0.89, 7: 0.1}
VERSUS = {0: 0.93, 1: 0.93, 2: 0.935, 3: 0.92, 8: 0.2}


def test_against_scipy():
    measured = judge(CONDITION, VERSUS, "lower")
    expected = ttest_rel([CONDITION[s] for s in range(4)], [VERSUS[s] for s in range(4)])
    low, high = expected.confidence_interval(0.95)
    assert (measured.low, measured.high) == pytest.approx((low, high))
    assert measured.p == pytest.approx(expected.pvalue)
    assert measured.effect == pytest.approx(-0.02375)
    assert measured.seeds == 4


def test_the_direction_decides():
    assert judge(CONDITION, VERSUS, "lower").verdict == "reproduced"
    assert judge(CONDITION, VERSUS, "higher").verdict == "contradicted"
    assert judge(VERSUS, CONDITION, "higher").verdict == "reproduced"
    assert judge({0: 1.0, 1: -1.0}, {0: 0.0, 1: 0.0}, "higher").verdict == "undecided"


@pytest.mark.parametrize("condition", [{}, {0: 1.0}, {5: 1.0, 6: 1.0}])
def test_fewer_than_two_pairs_decide_nothing(condition):
    measured = judge(condition, {0: 0.5, 1: 0.5}, "higher")
    assert measured.verdict == "undecided"
    assert math.isnan(measured.low)
    assert math.isnan(measured.high)
    assert math.isnan(measured.p)
    assert measured.seeds == len(condition.keys() & {0, 1})
    assert measured.effect == 0.5 if measured.seeds else math.isnan(measured.effect)


def test_two_seeds_decide_nothing():
    assert judge({0: 1.0, 1: 1.001}, {0: 0.0, 1: 0.0}, "higher").verdict == "undecided"


def test_without_variance():
    zeros = dict.fromkeys(range(3), 0.0)
    tenths = dict.fromkeys(range(3), 0.1)
    same = judge(zeros, zeros, "lower")
    assert (same.verdict, same.effect, same.p) == ("undecided", 0, 1)
    apart = judge(tenths, zeros, "higher")
    assert (apart.verdict, apart.p) == ("undecided", 0.25), "three equal differences prove nothing"
    assert apart.low == apart.high == pytest.approx(0.1)
    many, none = dict.fromkeys(range(6), 0.1), dict.fromkeys(range(6), 0.0)
    assert judge(many, none, "higher").verdict == "reproduced"
    assert judge(many, none, "higher").p == 2 * 0.5**6
    assert judge(many, none, "lower").verdict == "contradicted"


def test_interval():
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert interval([4.0])[0] == 4
    assert np.isnan(interval([4.0])[1:]).all()
    assert np.isnan(interval([])).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=8))
def test_the_verdict_is_what_interval_and_p_say(values):
    measured = judge(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0), "higher")
    assert measured.low <= measured.effect <= measured.high
    decided = measured.verdict != "undecided"
    if measured.high > measured.low:
        assert decided == (measured.low > 0 or measured.high < 0)
    if abs(measured.p - 0.05) > 1e-6:
        assert decided == (measured.p < 0.05)


def test_holm_in_closed_form():
    # Four p-values: 4 x 0.01, 3 x 0.02, then 2 x 0.03 is no less than the one before, and 1 x 0.5.
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.9]) == [1, 1]
    assert holm([]) == []
    missing, one = holm([math.nan, 0.02])
    assert math.isnan(missing)
    assert one == 0.02, "what was not tested does not count"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(ps):
    found = holm(ps)
    for p, corrected in zip(ps, found, strict=True):
        assert p <= corrected <= min(1, len(ps) * p)
    assert sorted(found) == [each for _, each in sorted(zip(ps, found, strict=True))]
