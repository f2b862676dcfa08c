"""Accuracies that are compared seed by seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from distill.metrics.verdict import Verdict, judge

Pair = tuple[int, int]
"""Seed of the student and of its teacher."""
Pairs = Mapping[Pair, float]


def comparable(tried: Mapping[float, Pairs]) -> dict[float, dict[Pair, float]]:
    """The temperatures with the pairs that all of them have; one that shares none with the others is left out."""
    kept = dict(tried)
    while not (common := set.intersection(*map(set, kept.values()))):
        del kept[min(kept, key=lambda at: (len(kept[at]), -at))]
    return {at: {pair: pairs[pair] for pair in sorted(common)} for at, pairs in kept.items()}


def decided(one: Pairs, other: Pairs) -> bool:
    """Whether one of both is more accurate beyond doubt."""
    return compare(one, other).verdict != "undecided"


def compare(own: Pairs, versus: Pairs) -> Verdict:
    """Verdict on "own are more accurate", over the pairs that both have.

    Pairs that share a seed are not independent: the unit is the student's seed, or the teacher's if there are more.
    """
    common = sorted(own.keys() & versus.keys())
    by_teacher = _by_teacher(common)
    return judge(
        by_unit({pair: own[pair] for pair in common}, by_teacher),
        by_unit({pair: versus[pair] for pair in common}, by_teacher),
        "higher",
    )


def best_of(tried: Mapping[float, Pairs], pairs: Collection[Pair]) -> float:
    """The temperature of the highest mean over these pairs, the lowest one of equals."""
    return max(tried, key=lambda at: (math.fsum(by_unit({pair: tried[at][pair] for pair in pairs}).values()), -at))


def of_best(tried: Mapping[float, Pairs]) -> dict[Pair, float]:
    """Accuracy of each seed at the temperature that is best on the other seeds, of the pairs that all have.

    The highest of several means is too high by chance; here no seed has a say in what it is judged at.
    """
    pairs = sorted(set.intersection(*map(set, tried.values())))
    unit = _by_teacher(pairs)
    found: dict[Pair, float] = {}
    for seed in {pair[unit] for pair in pairs}:
        others = [pair for pair in pairs if pair[unit] != seed]
        at = best_of(tried, others or pairs)  # one seed decides nothing, whatever it is judged at
        found |= {pair: tried[at][pair] for pair in pairs if pair[unit] == seed}
    return found


def _by_teacher(pairs: Iterable[Pair]) -> bool:
    pairs = list(pairs)
    return len({teacher for _, teacher in pairs}) > len({student for student, _ in pairs})


def by_unit(pairs: Pairs, by_teacher: bool | None = None) -> dict[int, float]:
    """Seed → mean over the pairs that have it."""
    unit = _by_teacher(pairs) if by_teacher is None else by_teacher
    found: dict[int, list[float]] = defaultdict(list)
    for pair, value in sorted(pairs.items()):
        found[pair[unit]].append(value)
    return {seed: math.fsum(values) / len(values) for seed, values in found.items()}
