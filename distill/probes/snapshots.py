"""Measure accuracy, calibration and dark knowledge of the weights that a network kept along its training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import SnapshotsProbe
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Dataset
from distill.metrics.measured import Measured
from distill.metrics.measures import BY_NAME, Measure, compute
from distill.metrics.positions import counted
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_network, network_config, snapshot_step, snapshot_steps, training_data
from distill.training.predict import predict
from distill.training.tracking import summary_writer

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

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
"""Measures that tables show, which are none: the measures of this probe are drawn along training."""


def probe_snapshots(config: SnapshotsProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure what a student would have learned from if its teacher had stopped after each part of training.

    Args:
        config: bins of the calibration error.
        network: artifact of a teacher or student.
        runtime: device and data root.
        log: TensorBoard folder; this network gets a folder in it.

    Returns:
        Values: `<measure>_part<p>` after p of the equal parts that `snapshots` asked for; part 0 is the initial
        weights and the last part the end. Measures of the un-augmented test images are `accuracy`, `nll` (nats),
        `ece`, `confidence`, `interclass_variance_relative` and `conditional_mutual_information` (nats). A measure
        that is not finite is left out.

        Curves: `snapshot_step`, numbers of updates, and `snapshot_<measure>`, one number per part; a measure that
        some part lacks is left out. Curves are written to TensorBoard too.

        A network without snapshots has none of these values, and this is no error: in an analysis only some
            networks may have kept snapshots.

    Raises:
        UserError: the network kept snapshots, and the data set is not the one that it was trained on.
    """
    if not snapshot_steps(network):
        return Measured({}, {})
    dataset = training_data(network, runtime)
    steps = [snapshot_step(network, part) for part in range(network_config(network).snapshots + 1)]
    by_part = []
    for step in steps:
        logits, labels = _predictions(network, step, dataset, runtime)
        by_part.append(compute(_ALONG, logits=logits, labels=labels, bins=config.bins))
    values = {
        f"{name}_part{part}": value
        for part, measures in enumerate(by_part)
        for name, value in measures.items()
        if math.isfinite(value)
    }
    along = {name: [measures[name] for measures in by_part] for name in by_part[0]}
    curves = {f"snapshot_{name}": found for name, found in along.items() if all(map(math.isfinite, found))}
    _write(steps, curves, log / network.path.name)
    return Measured(values, {"snapshot_step": [float(step) for step in steps], **curves})


def _predictions(
    network: Artifact, step: int, dataset: Dataset, runtime: Runtime
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
    device = runtime.torch_device()
    normalise = Normaliser(dataset.mean, dataset.std, device)
    logits = predict(load_network(network, device, step), dataset.test.images, normalise, device)
    return counted(logits, dataset.test.labels)


def _write(steps: list[int], curves: dict[str, list[float]], folder: Path) -> None:
    with summary_writer(folder) as writer:
        for name, values in curves.items():
            for step, value in zip(steps, values, strict=True):
                writer.add_scalar(f"snapshots/{name.removeprefix('snapshot_')}", value, step)
