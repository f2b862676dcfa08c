"""Draft."""

from __future__ import annotations

from distill.artifact import Artifact
from distill.config import TemperaturesProbe
from distill.metrics.measured import Measured


def probe_temperatures(config: TemperaturesProbe, network: Artifact) -> Measured:
    """Draft."""
    raise NotImplementedError
