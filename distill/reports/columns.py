"""Keep in a report's summary how its measures are shown, so that a finished report needs nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from distill.metrics.measures import Measure, Topic

_SHOWN = ("name", "heading", "unit", "decimals", "stands_alone")
# A summary may come from somebody else, and a number with a million digits would fill the memory.
_MOST_DECIMALS = 9

Columns = Mapping[str, Measure]
"""How measures are shown: name of a measure → its entry."""
UNKNOWN = Measure("")
"""How a measure without an entry is shown."""


def as_columns(measures: Iterable[Measure], wanted: Collection[str]) -> list[dict[str, Any]]:
    """Return how the wanted measures are shown, in the order of the list, as plain values that JSON can hold."""
    return [
        {name: getattr(each, name) for name in _SHOWN} | {"topic": each.topic._asdict() if each.topic else None}
        for each in {each.name: each for each in measures}.values()
        if each.name in wanted
    ]


def read_columns(summary: Mapping[str, Any]) -> Columns:
    """Read how the measures of a summary are shown.

    Raises:
        ValueError: an entry asks for more digits than a number has.
    """
    columns = {}
    for entry in summary["columns"]:
        topic = entry["topic"]
        column = Measure(
            **entry | {"topic": Topic(**topic | {"beside": tuple(topic["beside"])}) if topic else None}
        )
        if not 0 <= column.decimals <= _MOST_DECIMALS:
            raise ValueError(f"decimals = {column.decimals}: expected 0 to {_MOST_DECIMALS}.")
        columns[column.name] = column
    return columns
