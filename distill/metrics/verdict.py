"""Judge claims from paired seeds; nothing else in the project may print a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

Verdict = Literal["reproduced", "contradicted", "undecided"]
CONFIDENCE = 0.95
FEWEST_SEEDS = 3


class Interval(NamedTuple):
    """Give a mean with its 95 % interval; the bounds are NaN for fewer than two values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """Give the verdict on a claim, and the paired effect behind it."""

    verdict: Verdict
    effect: float
    """Mean over seeds of the value of `condition` minus the value of `versus`; NaN without a pair."""
    low: float
    """Lower bound of the effect's 95 % interval; NaN with fewer than two pairs."""
    high: float
    """Upper bound of the effect's 95 % interval; NaN with fewer than two pairs."""
    p: float
    """Two-sided p-value of the paired t-test (sign test for equal differences); NaN with fewer than two pairs."""
    seeds: int
    """Number of seeds that both conditions have."""


def interval(values: Iterable[float]) -> Interval:
    """Return the mean of values (one per seed) with its 95 % Student t interval; the mean is NaN without values."""
    array = np.asarray(list(values), dtype=np.float64)
    if array.size < 2:
        return Interval(float(array[0]) if array.size else math.nan, math.nan, math.nan)
    mean = float(array.mean())
    half = float(_student_t().ppf((1 + CONFIDENCE) / 2, array.size - 1)) * _standard_error(array)
    return Interval(mean, mean - half, mean + half)


def judge(
    condition: Mapping[int, float], versus: Mapping[int, float], direction: Literal["lower", "higher"]
) -> Judgement:
    """Judge the claim that `condition` is lower (higher) than `versus`, paired by common seeds.

    Both map a seed to its value. The claim is reproduced when the 95 % interval of the paired difference lies
    wholly in the stated direction, and contradicted when it lies wholly in the other. It is undecided otherwise,
    and with fewer than three pairs.
    """
    seeds = sorted(condition.keys() & versus.keys())
    differences = np.asarray([condition[seed] - versus[seed] for seed in seeds], dtype=np.float64)
    effect, low, high = interval(differences)
    p = _p_value(differences)
    verdict: Verdict = "undecided"
    if len(seeds) >= FEWEST_SEEDS and (low > 0 or high < 0) and p < 1 - CONFIDENCE:
        verdict = "reproduced" if (low > 0) == (direction == "higher") else "contradicted"
    return Judgement(verdict, effect, low, high, p, len(seeds))


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979): the chance of any false finding among those below α is α.

    NaN stays NaN and does not count.
    """
    order = sorted((p, at) for at, p in enumerate(ps) if not math.isnan(p))
    corrected, largest = [math.nan] * len(ps), 0.0
    for place, (p, at) in enumerate(order):
        largest = corrected[at] = min(1.0, max(largest, (len(order) - place) * p))
    return corrected


def _p_value(differences: np.ndarray) -> float:
    if differences.size < 2:
        return math.nan
    mean, error = abs(float(differences.mean())), _standard_error(differences)
    if error == 0:
        return 2.0 ** (1 - differences.size) if mean > 0 else 1.0
    return float(2 * _student_t().sf(mean / error, differences.size - 1))


def _student_t() -> Any:
    # This import takes half a second; printing finished verdicts does not need it.
    from scipy.stats import t

    return t


def _standard_error(values: np.ndarray) -> float:
    # The mean of equal values can differ from them by rounding, which makes their variance slightly above 0.
    if np.ptp(values) == 0:
        return 0.0
    return float(values.std(ddof=1)) / math.sqrt(values.size)
