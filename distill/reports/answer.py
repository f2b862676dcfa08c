"""Answer the question of an experiment in one plain sentence that is made from its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.config.data_sets import short_name
from distill.metrics.verdict import Verdict
from distill.reports.experiment import Saying

_LONGEST = 300
"""Most characters of an answer."""
_GENERIC: dict[Verdict, str] = {"reproduced": "Reproduced", "contradicted": "Not so", "undecided": "Undecided"}


def in_words(sayings: Iterable[Saying], claims: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what the sayings of an experiment make of the verdicts, in order, one sentence for each outcome."""
    verdicts = {claim["id"]: claim["verdict"] for claim in claims}
    told = []
    for saying in sayings:
        for verdict in _GENERIC:
            places = [place for id_, place in saying.claims.items() if verdicts.get(id_) == verdict]
            if places:
                told.append(getattr(saying, verdict).format(_listed(places)).rstrip())
    return told


def answer_of(summary: Mapping[str, Any]) -> str:
    """Return the answer of a report in at most 300 characters; an empty text if it claims nothing."""
    claims = summary["claims"]
    if not claims:
        return ""
    counts = [claim["seeds"] for claim in claims]
    seeds = "–".join(map(str, sorted({min(counts), max(counts)})))
    head = f"On {short_name(summary['data'])} ({seeds} seed{'' if seeds == '1' else 's'}): "
    # A report of an earlier version has no words of its own.
    words = summary.get("in_words")
    texts = (_joined(words, most) if words else _counted(claims, most) for most in range(len(claims) * 3, -1, -1))
    return next((text for each in texts if len(text := f"{head}{each}") <= _LONGEST), head[:_LONGEST])


def _joined(words: Sequence[str], most: int) -> str:
    """List the first sentences, and say how many are left out."""
    rest = len(words) - most
    return f"{'; '.join([*words[:most], *([f'and {rest} more'] if rest > 0 else [])])}."


def _counted(claims: Sequence[Mapping[str, Any]], most: int) -> str:
    """List the claims by their verdicts, at most so many of each; of the others say how many there are."""
    parts = []
    for verdict, heading in _GENERIC.items():
        statements = [claim["statement"] for claim in claims if claim["verdict"] == verdict]
        rest = len(statements) - most
        named = statements[:most]
        if rest > 0:
            named.append(f"and {rest} more" if named else f"{rest} claim{'' if rest == 1 else 's'}")
        if named:
            parts.append(f"{heading}: {'; '.join(named)}")
    text = ". ".join(parts) + "."
    return f"{text[:1].lower()}{text[1:]}"


def _listed(places: Sequence[str]) -> str:
    """Join places that begin alike: "at T = 4" and "at T = 16" are "at T = 4 and 16"."""
    first, *others = places
    words = [each.rpartition(" ")[2] for each in others]
    return f"{', '.join([first, *words[:-1]])} and {words[-1]}" if words else first
