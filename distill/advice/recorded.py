"""What recorded results of this project's experiments say: other networks, mostly other data, so a weaker basis.

Numbers are read from `experiments/results/*.json` when advice is asked for; where a file is absent, or has not the
rows, its sentence is left out. Accuracies are of held-out images; where a table has none, of test images, and that
is said. Conditions are not paired there: two are told apart only where their intervals do not overlap. Claims are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.advice.statement import Number, Statement, listed, percent, points
from distill.errors import UserError
from distill.metrics.verdict import Interval
from distill.reading import read_json

HELD_OUT = "held_out_accuracy"
_STUDENTS = {
    "when_smoothing_hurts": "students",
    "chandrasegaran2022": "students",
    "smoothing_sweep": "students of a tenth of the images",
}
"""Experiments with students of teachers of several smoothings, and what their students are."""
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
    claims: Mapping[str, Mapping[str, Any]]
    """Identifier → what the report decided, with `verdict`, `effect`, `low` and `high`."""

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
    claims = {claim["id"]: claim for claim in summary["claims"]}
    return Recorded(source, summary["experiment"], summary["data"], rows, claims)


def recorded_results(folder: Path) -> list[Recorded]:
    """Every table in a folder of recorded results, by name; a file that is none of these is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            summary = read_json(path)
            found.append(parse(summary, f"experiments/results/{path.name}"))
        except (UserError, ValueError, KeyError, TypeError):
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
        if result.experiment in _STUDENTS and smoothing is not None:
            said += _on_smoothing(result, smoothing)
        elif result.experiment == "bits_of_dark_knowledge":
            said += _on_prediction(result)
        said += on_teaching([result])
    return said


def best_temperatures(results: Iterable[Recorded], smoothing: float) -> set[float]:
    """The temperatures that were the best somewhere for students of the teacher of nearest smoothing."""
    found: set[float] = set()
    for result in results:
        if result.experiment in _STUDENTS:
            nearest, groups = _groups(result, smoothing, HELD_OUT)
            found |= {_best(by_smoothing[nearest])[0] for by_smoothing in groups.values()}
    return found


_Groups = dict[str, dict[float, dict[float, Interval]]]


def _groups(result: Recorded, smoothing: float, accuracy: str) -> tuple[float, _Groups]:
    """The nearest smoothing that was tried, and group of students → smoothing → temperature → accuracy."""
    groups: _Groups = {}
    for (condition, measure), (value, _) in result.rows.items():
        if measure != accuracy or not (match := _DISTILLED.fullmatch(condition)):
            continue
        words = match["share"] or (
            f"{match['network']}students" if match["network"] else _STUDENTS[result.experiment]
        )
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
    accuracy = _accuracy(result)
    nearest, groups = _groups(result, smoothing, accuracy)
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
    seeds = max(seeds for (_, measure), (_, seeds) in result.rows.items() if measure == accuracy)
    whose = "a hard teacher" if nearest == 0 else f"a teacher with ε = {nearest:g} against those of a hard one"
    text = f"Students of {whose}, each at the best temperature that was tried, {_of(accuracy)}: {'; '.join(parts)}."
    return [Statement(text, result.basis(seeds), numbers | {"smoothing": nearest})]


def _accuracy(result: Recorded) -> str:
    """Held-out accuracy of students, or of test images where there is none."""
    held_out = any(name == HELD_OUT and _DISTILLED.fullmatch(condition) for condition, name in result.rows)
    return HELD_OUT if held_out else "accuracy"


def _of(accuracy: str) -> str:
    return "held-out accuracy" if accuracy == HELD_OUT else "accuracy on test images"


def on_teaching(results: Iterable[Recorded]) -> list[Statement]:
    """Whether the teacher that dark knowledge picks taught better than the most accurate one, in sweeps."""
    return [said for result in results if result.experiment == "smoothing_sweep" for said in _on_teaching(result)]


def _on_teaching(result: Recorded) -> list[Statement]:
    accuracy = _accuracy(result)
    parts, numbers, seeds = [], dict[str, Number](), 0
    for T in ("1", "4"):
        own, other = (
            result.rows.get((f"student of the teacher picked for {use}, T={T}", "accuracy"))
            for use in ("teaching", "accuracy")
        )
        claim = result.claims.get(f"students-of-teaching-T{T}")
        if own is None or other is None or claim is None or claim["low"] is None:
            continue
        word = {"reproduced": "more", "contradicted": "less"}.get(claim["verdict"], "undecided")
        parts.append(
            f"at T = {T} {percent(own[0].mean)} against {percent(other[0].mean)} ({word}: {points(claim['effect'])}"
            f" [{100 * claim['low']:+.2f}, {100 * claim['high']:+.2f}])"
        )
        numbers |= {f"picked for teaching, T={T}": own[0].mean, f"picked for accuracy, T={T}": other[0].mean}
        numbers |= {f"difference, T={T}": claim["effect"], f"verdict, T={T}": word}
        seeds = max(seeds, claim["seeds"])
    if not parts:
        return []
    text = (
        f"Of a sweep of smoothings one teacher was picked for teaching, by relative inter-class logit variance, and"
        f" one for its own accuracy. Their {_STUDENTS[result.experiment]}, accuracy on test images:"
        f" {'; '.join(parts)}."
    )
    said = [Statement(text, result.basis(seeds), numbers)]
    _, groups = _groups(result, 0.0, accuracy)
    for by_smoothing in groups.values():
        found = {T: {own: each[T] for own, each in by_smoothing.items() if T in each} for T in by_smoothing[0.0]}
        best = {T: _best(by_own) for T, by_own in sorted(found.items())}
        shown = [
            f"at T = {T:g} ε = {own:g}, {percent(value.mean)}, and without smoothing {percent(found[T][0.0].mean)}"
            for T, (own, value) in best.items()
        ]
        text = f"Of {len(by_smoothing)} smoothings there the best teacher was, {_of(accuracy)}: {'; '.join(shown)}."
        said.append(Statement(text, result.basis(seeds), {f"best ε, T={T:g}": own for T, (own, _) in best.items()}))
    return said


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
