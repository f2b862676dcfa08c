"""Measure calibration of stored predictions after their logits are divided by a temperature.

Source: Guo et al. 2017, sec. 4.2.
"""

from __future__ import annotations

from pathlib import Path

from distill.config import TemperaturesProbe
from distill.metrics.calibration_error import reliability
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.metrics.temperature import by_temperature, fit_temperature
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, refuse_no_held_out

_TOPIC = Topic("Temperature scaling", ("ece", "nll"))
MEASURES = (
    Measure("scaled_temperature", "temperature", decimals=2, topic=_TOPIC, what="fitted on held-out images"),
    Measure("scaled_ece", "scaled ECE", "%", 2, _TOPIC, stands_alone=True, what="ECE at the fitted temperature"),
    Measure("scaled_nll", "scaled NLL", "nats", 3, _TOPIC, stands_alone=True, what="NLL at the fitted temperature"),
    Measure("lowest_nll", "lowest NLL", "nats", 3, _TOPIC, stands_alone=True, what="NLL at the best temperature"),
)


def probe_temperatures(config: TemperaturesProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure NLL and ECE of the test set at each temperature, and at the one that is fitted on held-out images.

    Returns:
        Values: all of `MEASURES`; ECE (a share, with 15 bins) and NLL are of the test set.

        Curves: `temperatures`, `nll_by_temperature` and `ece_by_temperature`, of one length; the reliability
        diagram at the fitted temperature as `scaled_reliability_confidence`, `..._accuracy` and `..._count`.

    Raises:
        UserError: the network has no held-out predictions.
    """
    held_out, held_out_labels = load_predictions(network, "held_out")
    refuse_no_held_out(network, len(held_out_labels), "the fit of a temperature")
    fitted = fit_temperature(held_out, held_out_labels)
    logits, labels = load_predictions(network, "test")
    nlls, errors = by_temperature(logits, labels, config.temperatures)
    (scaled_nll,), (scaled_ece,) = by_temperature(logits, labels, [fitted])
    diagram = reliability(logits.double() / fitted, labels)
    return Measured(
        {
            "scaled_temperature": fitted,
            "scaled_ece": scaled_ece,
            "scaled_nll": scaled_nll,
            "lowest_nll": min(nlls),
        },
        {
            "temperatures": list(config.temperatures),
            "nll_by_temperature": nlls,
            "ece_by_temperature": errors,
            "scaled_reliability_confidence": diagram.confidence.tolist(),
            "scaled_reliability_accuracy": diagram.accuracy.tolist(),
            "scaled_reliability_count": diagram.count.double().tolist(),
        },
    )
