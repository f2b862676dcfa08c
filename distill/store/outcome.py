"""Define `Outcome`: what a stage reports about the artifact that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """Hold what a stage reports about the artifact that it wrote; it goes into the record."""

    metrics: dict[str, float]
    data: dict[str, Any]
