"""Measures that need more of a network than its predictions: its weights, its images, its history.

Each probe has a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import (
    InformationProbe,
    KnowledgeProbe,
    MemorisationProbe,
    PenultimateProbe,
    ProbeConfig,
    ScalingProbe,
    SnapshotsProbe,
    TemperaturesProbe,
    TranslationProbe,
)
from distill.metrics.measured import Measured

if TYPE_CHECKING:
    from distill.store.artifact import Artifact
    from distill.system.runtime import Runtime


def probe(config: ProbeConfig, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """What a probe finds of one network.

    Args:
        config: which probe.
        network: artefact of a teacher or a student.
        runtime: device and data root.
        log: TensorBoard folder, for what people would rather look at.

    Raises:
        UserError: the probe cannot be applied to this network.
    """
    match config:
        case TemperaturesProbe():
            from distill.probes.temperatures import probe_temperatures

            return probe_temperatures(config, network)
        case PenultimateProbe():
            from distill.probes.penultimate import probe_penultimate

            return probe_penultimate(config, network, runtime, log)
        case InformationProbe():
            from distill.probes.information import probe_information

            return probe_information(config, network, runtime, log)
        case TranslationProbe():
            from distill.probes.bleu import probe_translation

            return probe_translation(config, network, runtime)
        case KnowledgeProbe():
            from distill.probes.knowledge import probe_knowledge

            return probe_knowledge(config, network, runtime, log)
        case SnapshotsProbe():
            from distill.probes.snapshots import probe_snapshots

            return probe_snapshots(config, network, runtime, log)
        case ScalingProbe():
            from distill.probes.scaling import probe_scaling

            return probe_scaling(config, network)
        case MemorisationProbe():
            from distill.probes.memorisation import probe_memorisation

            return probe_memorisation(config, network, runtime)
