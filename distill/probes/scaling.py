"""Measure calibration on the test set after each map of logits that is fitted on held-out predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from distill.config import CalibrationMethod, ScalingProbe
from distill.metrics import logit_scaling
from distill.metrics.measured import Measured
from distill.metrics.measures import BY_NAME, Measure, Topic, compute
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, refuse_no_held_out

_JUDGED = [BY_NAME[name] for name in ("ece", "ece_classwise", "nll", "brier", "accuracy")]
_TOPICS = {
    method: Topic(f"{method.capitalize()} scaling, fitted on held-out images")
    for method in get_args(CalibrationMethod)
}
MEASURES = (
    Measure("temperature_fitted", "fitted temperature", decimals=2, topic=_TOPICS["temperature"]),
    *(
        replace(each, name=f"{method}_{each.name}", heading=f"{each.heading}, {method}", topic=topic)
        for method, topic in _TOPICS.items()
        for each in _JUDGED
    ),
)


def probe_scaling(config: ScalingProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure what each map of logits, fitted on the held-out predictions alone, does to the test predictions.

    Returns:
        Values: `<method>_<measure>` for ECE, classwise ECE, NLL, Brier score and accuracy, which vector and platt
        may change; with the method temperature also `temperature_fitted`.

    Raises:
        UserError: the network has no held-out predictions.
    """
    held_out, held_out_labels = load_predictions(network, "held_out")
    refuse_no_held_out(network, len(held_out_labels), "scaling")
    logits, labels = load_predictions(network, "test")
    values: dict[str, float] = {}
    for method in config.methods:
        fitted = logit_scaling.fit(method, held_out, held_out_labels)
        if method == "temperature":
            values["temperature_fitted"] = 1 / fitted.scale.item()
        after = compute(_JUDGED, logits=fitted.apply(logits), labels=labels, bins=config.bins)
        values |= {f"{method}_{name}": value for name, value in after.items()}
    return Measured(values, {})
