"""Draft."""

from __future__ import annotations

from pathlib import Path

from distill.artifact import Artifact
from distill.config import PenultimateProbe
from distill.metrics.measured import Measured
from distill.runtime import Runtime


def probe_penultimate(config: PenultimateProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Draft."""
    raise NotImplementedError
