"""Measure accuracy, calibration and dark knowledge of the weights that a network kept along its training."""

from __future__ import annotations

import math
from pathlib import Path

from distill.config import SnapshotsProbe
from distill.metrics.measured import Measured
from distill.metrics.measures import BY_NAME, Measure, compute
from distill.metrics.positions import counted
from distill.probes.outputs import logits_of
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import network_config, snapshot_step, snapshot_steps, training_data
from distill.training.tracking import summary_writer

_ALONG = [
    BY_NAME[name]
    for name in (
        "accuracy",
        "nll",
        "ece",
        "confidence",
        "interclass_variance_relative",
        "conditional_mutual_information",
    )
]
MEASURES: tuple[Measure, ...] = ()
"""Tables show no measure of this probe; its measures are drawn along training."""


def probe_snapshots(config: SnapshotsProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure a network's snapshots, each as the teacher that students would have had if training had ended there.

    Returns:
        Values: `<measure>_part<p>` after p of the equal parts that `snapshots` asked for; part 0 is the initial
        weights and the last part the end. Measures of the un-augmented test images are `accuracy`, `nll` (nats),
        `ece`, `confidence`, `interclass_variance_relative` and `conditional_mutual_information` (nats). A measure
        that is not finite is left out.

        Curves: `snapshot_step`, numbers of updates, and `snapshot_<measure>`, one number per part; a measure that
        some part lacks is left out. Curves are written to TensorBoard too.

        A network without snapshots has no values, and this is no error: in an analysis only some networks may have
        kept snapshots.

    Raises:
        UserError: the network kept snapshots, and the data set is not the one that it was trained on.
    """
    if not snapshot_steps(network):
        return Measured({}, {})
    dataset = training_data(network, runtime)
    steps = [snapshot_step(network, part) for part in range(network_config(network).snapshots + 1)]
    by_part = []
    for step in steps:
        logits, labels = counted(logits_of(network, dataset.test.images, runtime, step), dataset.test.labels)
        by_part.append(compute(_ALONG, logits=logits, labels=labels, bins=config.bins))
    values = {
        f"{name}_part{part}": value
        for part, measures in enumerate(by_part)
        for name, value in measures.items()
        if math.isfinite(value)
    }
    along = {name: [measures[name] for measures in by_part] for name in by_part[0]}
    along = {name: curve for name, curve in along.items() if all(map(math.isfinite, curve))}
    with summary_writer(log / network.path.name) as writer:
        for name, curve in along.items():
            for step, value in zip(steps, curve, strict=True):
                writer.add_scalar(f"snapshots/{name}", value, step)
    curves = {f"snapshot_{name}": curve for name, curve in along.items()}
    return Measured(values, {"snapshot_step": [float(step) for step in steps], **curves})
