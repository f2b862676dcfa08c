"""Draft."""

from __future__ import annotations

from distill.artifact import Artifact
from distill.config import TranslationProbe
from distill.metrics.measured import Measured
from distill.runtime import Runtime


def probe_translation(config: TranslationProbe, network: Artifact, runtime: Runtime) -> Measured:
    """Draft."""
    raise NotImplementedError
