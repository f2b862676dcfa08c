"""What recorded results of this project's experiments say: other networks, mostly other data, so a weaker basis.

Numbers are read from `experiments/results/*.json` when advice is asked for; where a file is absent, or has not the
rows, its sentence is left out. Accuracies are of held-out images. Conditions are not paired there: two are told
apart only where their intervals do not overlap.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.advice.statement import Number, Statement, listed, percent
from distill.metrics.verdict import Interval

HELD_OUT = "held_out_accuracy"
_DISTILLED = re.compile(
    r"(?P<network>\w+ )?student of ε=(?P<smoothing>[\d.]+), T=(?P<T>[\d.]+)(, (?P<share>\d+%))?"
)


@dataclass(frozen=True)
class Recorded:
    """The table of one finished experiment."""

    source: str
    """Its file, or its key."""
    experiment: str
    data: str
    rows: Mapping[tuple[str, str], tuple[Interval, int]]
    """(condition, measure) → mean with its interval, and seeds."""

    def basis(self, seeds: int) -> str:
        """What sentences on it rest on."""
        return f"{self.source}: {self.data}, {seeds} seed{'' if seeds == 1 else 's'}"


def parse(summary: Mapping[str, Any], source: str) -> Recorded:
    """The table in the summary of a report."""
    rows = {
        (row["condition"], row["measure"]): (
            Interval(*(float("nan") if row[name] is None else row[name] for name in ("mean", "low", "high"))),
            row["seeds"],
        )
        for row in summary["rows"]
        if row["mean"] is not None
    }
    return Recorded(source, summary["experiment"], summary["data"], rows)


def recorded_results(folder: Path) -> list[Recorded]:
    """Every table in a folder of recorded results, by name; a file that is none of these is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            summary = json.loads(path.read_text())
            found.append(parse(summary, f"experiments/results/{path.name}"))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def statements(results: Iterable[Recorded], smoothing: float | None) -> list[Statement]:
    """What the recorded results say to someone with a teacher of this smoothing.

    Args:
        results: the tables.
        smoothing: ε of the teacher, in the uniform convention; None where no ε says what its labels were, and then
            only what holds for any teacher is told.
    """
    said = []
    for result in results:
        if result.experiment in ("when_smoothing_hurts", "chandrasegaran2022") and smoothing is not None:
            said += _on_smoothing(result, smoothing)
        elif result.experiment == "bits_of_dark_knowledge":
            said += _on_prediction(result)
    return said


def best_temperatures(results: Iterable[Recorded], smoothing: float) -> set[float]:
    """The temperatures that were the best somewhere for students of the teacher of nearest smoothing."""
    found: set[float] = set()
    for result in results:
        if result.experiment in ("when_smoothing_hurts", "chandrasegaran2022"):
            nearest, groups = _groups(result, smoothing)
            found |= {_best(by_smoothing[nearest])[0] for by_smoothing in groups.values()}
    return found


_Groups = dict[str, dict[float, dict[float, Interval]]]


def _groups(result: Recorded, smoothing: float) -> tuple[float, _Groups]:
    """The nearest smoothing that was tried, and group of students → smoothing → temperature → held-out accuracy."""
    groups: _Groups = {}
    for (condition, measure), (value, _) in result.rows.items():
        if measure != HELD_OUT or not (match := _DISTILLED.fullmatch(condition)):
            continue
        words = match["share"] or f"{(match['network'] or '').strip()} students"
        by_smoothing = groups.setdefault(words, {})
        by_smoothing.setdefault(float(match["smoothing"]), {})[float(match["T"])] = value
    tried = {own for each in groups.values() for own in each}
    # A smoothed teacher is like a smoothed one, however little.
    alike = [own for own in tried if (own > 0) == (smoothing > 0)]
    if not alike:
        return smoothing, {}
    nearest = min(alike, key=lambda own: (abs(own - smoothing), own))
    return nearest, {words: each for words, each in groups.items() if nearest in each}


def _on_smoothing(result: Recorded, smoothing: float) -> list[Statement]:
    nearest, groups = _groups(result, smoothing)
    parts, numbers = [], dict[str, Number]()
    for words, by_smoothing in groups.items():
        own, hard = by_smoothing[nearest], by_smoothing.get(0.0)
        T, mine = _best(own)
        name = f"{words.replace('%', ' %')}{' of the images' if '%' in words else ''}"
        numbers |= {f"{words}, T": T, f"{words}, accuracy": mine.mean}
        if nearest == 0 or hard is None:
            parts.append(f"{name} {percent(mine.mean)} at T = {T:g}")
            continue
        T_hard, theirs = _best(hard)
        numbers |= {f"{words}, T without smoothing": T_hard, f"{words}, accuracy without smoothing": theirs.mean}
        parts.append(
            f"{name} {percent(mine.mean)} at T = {T:g} against {percent(theirs.mean)} at T = {T_hard:g}"
            f" ({_told(mine, theirs)})"
        )
    if not parts:
        return []
    seeds = max(seeds for (condition, measure), (_, seeds) in result.rows.items() if measure == HELD_OUT)
    whose = "a hard teacher" if nearest == 0 else f"a teacher with ε = {nearest:g} against those of a hard one"
    text = (
        f"Students of {whose}, each at the best temperature that was tried, held-out accuracy: {'; '.join(parts)}."
    )
    return [Statement(text, result.basis(seeds), numbers | {"smoothing": nearest})]


def _best(by_temperature: Mapping[float, Interval]) -> tuple[float, Interval]:
    best = max(by_temperature, key=lambda T: (by_temperature[T].mean, -T))
    return best, by_temperature[best]


def _told(own: Interval, other: Interval) -> str:
    if own.low > other.high:
        return "more"
    return "less" if own.high < other.low else "not told apart"


def _on_prediction(result: Recorded) -> list[Statement]:
    said = []
    for temperature in ("1", "4"):
        measure = f"concordance_T{temperature}"
        found = {
            condition.removeprefix("measure: "): (value, seeds)
            for (condition, name), (value, seeds) in result.rows.items()
            if name == measure and condition.startswith("measure: ")
        }
        if HELD_OUT not in found:
            continue
        value, seeds = found[HELD_OUT]
        others = {name: other[0].mean for name, other in found.items() if name != HELD_OUT}
        shown = listed(
            [f"{_PREDICTORS[name]} {percent(others[name], 0)}" for name in _PREDICTORS if name in others]
        )
        better = sum(other > value.mean for other in others.values())
        text = (
            f"Before any student is trained, the held-out accuracy of a teacher orders pairs of teachers as their "
            f"students' gain at T = {temperature} does in {percent(value.mean, 0)} of cases"
            f" [{100 * value.low:.0f}, {100 * value.high:.0f}], chance being 50 % (gain on test images)"
        )
        text += f"; {shown}." if shown != "none" else "."
        text += f" Of {len(others)} other measures {better or 'none'} did better." if others else ""
        numbers: dict[str, Number] = {HELD_OUT: value.mean, "low": value.low, "high": value.high}
        said.append(Statement(text, result.basis(seeds), numbers | others))
    return said


_PREDICTORS = {
    "bits_beyond_top1_held_out": "bits beyond top-1",
    "conditional_mutual_information_train": "conditional mutual information of training images",
    "interclass_variance_relative_held_out": "relative inter-class variance",
}
