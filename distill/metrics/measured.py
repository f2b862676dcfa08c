"""Define the result of measuring one network."""

from __future__ import annotations

from dataclasses import dataclass

MEASURES_FILE = "measures.json"
"""Name of the file of an analysis that maps the key of each network to its measures."""


@dataclass(frozen=True)
class Measured:
    """Hold the measures of one network: numbers, vectors, or the reason why there are none."""

    values: dict[str, float]
    curves: dict[str, list[float]]
    diverged: str | None = None

    def joined(self, other: Measured) -> Measured:
        """Join two sets of measures into one.

        Raises:
            ValueError: a name is in both.
        """
        if twice := (self.values.keys() & other.values.keys()) | (self.curves.keys() & other.curves.keys()):
            raise ValueError(f"measured twice: {', '.join(sorted(twice))}")
        return Measured(self.values | other.values, self.curves | other.curves, self.diverged or other.diverged)
