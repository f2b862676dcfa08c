"""What a stage says of what it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """What a stage says of what it wrote: goes into the record."""

    metrics: dict[str, float]
    data: dict[str, Any]
