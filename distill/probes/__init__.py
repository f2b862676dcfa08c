"""Measure what needs more of a network than its predictions: its weights, its images, its history.

Each probe has a file of its own, with the list of its measures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import ProbeConfig
from distill.system.references import referenced

if TYPE_CHECKING:
    from distill.metrics.measured import Measured
    from distill.metrics.measures import Measure
    from distill.store.artifact import Artifact
    from distill.system.runtime import Runtime

PROBES = {
    "temperatures": "distill.probes.temperatures:probe_temperatures",
    "penultimate": "distill.probes.penultimate:probe_penultimate",
    "information": "distill.probes.information:probe_information",
    "translation": "distill.probes.bleu:probe_translation",
    "knowledge": "distill.probes.knowledge:probe_knowledge",
    "snapshots": "distill.probes.snapshots:probe_snapshots",
    "scaling": "distill.probes.scaling:probe_scaling",
    "memorisation": "distill.probes.memorisation:probe_memorisation",
}
"""Function of each probe, by the field `probe` of its config.

The function takes (config, network, runtime, log); its file also has the list `MEASURES`. Only measures of
`distill.metrics.measures` are part of a key: who adds one to a probe's own list raises the version of `analysis`.
"""


def probe(config: ProbeConfig, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure one network by a probe.

    Args:
        config: config of the probe.
        network: artifact of a teacher or a student.
        runtime: device and data root.
        log: TensorBoard folder; this network gets a folder in it, for pictures and curves.

    Raises:
        UserError: the probe cannot be applied to this network.
    """
    return referenced(PROBES[config.probe])(config, network, runtime, log)


def probe_measures(probe: str) -> tuple[Measure, ...]:
    """List the measures that the module of a probe defines in `MEASURES`."""
    module, _, _ = PROBES[probe].partition(":")
    return referenced(f"{module}:MEASURES")
