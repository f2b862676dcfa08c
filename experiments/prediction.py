"""Measure how well a measure of teachers predicts what students gain, on families that it was not fitted on.

One value per teacher; a family is a set of teachers that vary one thing, such as the strength of smoothing. Only
the order of values counts, so no monotone change of a measure or of the gain changes anything but a sign. Whether
more of a measure is better is not given but learned, as is, in `chosen_without`, which measure to take: for each
pair of teachers on those that share a family with neither. Were only the family of one of the two left out, the
other would have had its say, and a measure that knows nothing would come out above 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import rankdata


class Chosen(NamedTuple):
    """The result of always taking the measure that is best on other families."""

    concordance: float
    """`left_out_concordance` of the measure that is chosen anew for every two families."""
    shares: dict[str, float]
    """Measure → share of the pairs for which it was chosen; the most frequent first, without those never chosen."""


class _Fold(NamedTuple):
    """Pairs of teachers of two families, or of one, and all teachers of others."""

    outside: Bool[np.ndarray, " n"]
    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]


def rank_correlation(
    measures: Float64[np.ndarray, "*m n"], gain: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "*m"]:
    """Return Spearman's rank correlation of each measure with the gain, -1 to 1.

    Equal values share the mean of their ranks. NaN where either is constant or there are fewer than two teachers.
    O(m n log n).

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    _check(measures, gain)
    middle = (len(gain) + 1) / 2
    # Ranks are multiples of a half: a constant has a norm of exactly 0.
    ours, theirs = rankdata(measures, axis=-1) - middle, rankdata(gain) - middle
    norm = np.sqrt((ours**2).sum(axis=-1)) * math.sqrt(float(theirs @ theirs))
    return np.divide(ours @ theirs, norm, out=np.full_like(norm, math.nan), where=norm > 0)


def left_out_concordance(
    measures: Float64[np.ndarray, "*m n"], gain: Float64[np.ndarray, " n"], families: Sequence[str]
) -> Float64[np.ndarray, "*m"]:
    """Return the share of pairs of teachers that each measure orders as the gain does, by a sign learned elsewhere.

    A pair is judged with the sign of `rank_correlation` on all teachers outside the families of the two. It counts
    half if the measure cannot order it: its two values are equal, or the other families show no sign. It does not
    count if its gains are equal. 1 is perfect, 0.5 chance, NaN where no two gains differ. A measure that means one
    thing in one family and the opposite in the next can be worse than chance. A family of one is in pairs with
    others only. O(m n log n) for every two families.

    Args:
        measures: a value per teacher.
        gain: gain of each teacher's students.
        families: name of each teacher's family.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    _check(measures, gain, families)
    ordered, pairs = np.zeros(measures.shape[:-1]), 0
    for fold in _folds(gain, families):
        # Where there is no correlation to learn from, there is no sign.
        sign = np.sign(np.nan_to_num(rank_correlation(measures[..., fold.outside], gain[fold.outside])))
        ordered += _ordered(sign[..., None] * measures, gain, fold)
        pairs += len(fold.first)
    return ordered / pairs if pairs else np.full_like(ordered, math.nan)


def chosen_without(
    measures: Mapping[str, Float64[np.ndarray, " n"]], gain: Float64[np.ndarray, " n"], families: Sequence[str]
) -> Chosen:
    """Return what taking the best measure gives, if it is chosen on other families than it is judged on.

    For every two families, or one: the measure of the largest absolute `rank_correlation` on the teachers outside,
    the first of equal ones, judged on their pairs as in `left_out_concordance`. The concordance of the measure that
    is best on all teachers is too high, since they chose it. O(m n log n) for every two families.

    Args:
        measures: name → a value per teacher.
        gain: gain of each teacher's students.
        families: name of each teacher's family.

    Raises:
        ValueError: there is no measure, the lengths differ, or a value is not finite.
    """
    if not measures:
        raise ValueError("measures = {}: expected one or more to choose from.")
    names, stacked = list(measures), np.stack(list(measures.values()))
    _check(stacked, gain, families)
    ordered, pairs = 0.0, np.zeros(len(names))
    for fold in _folds(gain, families):
        correlations = np.nan_to_num(rank_correlation(stacked[:, fold.outside], gain[fold.outside]))
        best = int(np.abs(correlations).argmax())
        ordered += float(_ordered(np.sign(correlations[best]) * stacked[best], gain, fold))
        pairs[best] += len(fold.first)
    if not pairs.any():
        return Chosen(math.nan, {})
    shares = {names[index]: float(pairs[index] / pairs.sum()) for index in np.argsort(-pairs, kind="stable")}
    return Chosen(ordered / float(pairs.sum()), {name: share for name, share in shares.items() if share})


def family_error(
    measures: Float64[np.ndarray, "*m n"], gain: Float64[np.ndarray, " n"], families: Sequence[str]
) -> Float64[np.ndarray, "*m"]:
    """Return the standard error of `left_out_concordance` over families: a jackknife that leaves out one family.

    How much it would differ with other kinds of teachers, which repeating the same ones with other seeds does not
    tell; rather too large than too small. NaN for fewer than two families. O(families) times the cost of the
    concordance.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    _check(measures, gain, families)
    named = list(dict.fromkeys(families))
    if len(named) < 2:
        return np.full(measures.shape[:-1], math.nan)
    kept = [[index for index, family in enumerate(families) if family != left_out] for left_out in named]
    without = np.stack(
        [left_out_concordance(measures[..., rows], gain[rows], [families[row] for row in rows]) for rows in kept]
    )
    return np.sqrt((len(named) - 1) * without.var(axis=0))


def _folds(gain: Float64[np.ndarray, " n"], families: Sequence[str]) -> Iterator[_Fold]:
    """Yield all pairs of teachers that differ in gain, by the families of the two."""
    family_of = np.asarray(families, dtype=object)
    first, second = np.triu_indices(len(gain), k=1)
    differ = gain[first] != gain[second]
    first, second = first[differ], second[differ]
    for one, other in combinations_with_replacement(dict.fromkeys(families), 2):
        of_one, of_other = family_of == one, family_of == other
        between = (of_one[first] & of_other[second]) | (of_other[first] & of_one[second])
        yield _Fold(~(of_one | of_other), first[between], second[between])


def _ordered(
    measures: Float64[np.ndarray, "*m n"], gain: Float64[np.ndarray, " n"], fold: _Fold
) -> Float64[np.ndarray, "*m"]:
    """Count the pairs of a fold that are ordered as the gain orders them; equal values count half."""
    more = np.sign(measures[..., fold.first] - measures[..., fold.second])
    better = np.sign(gain[fold.first] - gain[fold.second])
    return (0.5 + 0.5 * more * better).sum(axis=-1)


def _check(measures: np.ndarray, gain: np.ndarray, families: Sequence[str] | None = None) -> None:
    teachers = measures.shape[-1]
    for length in (len(gain), teachers if families is None else len(families)):
        if length != teachers:
            raise ValueError(f"{length} values beside a measure of {teachers} teachers: expected one per teacher.")
    if not (np.isfinite(measures).all() and np.isfinite(gain).all()):
        raise ValueError("a measure or a gain is not finite: leave out the teachers without one.")
