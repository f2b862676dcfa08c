"""Calibration on the test set after each map of logits that held-out predictions can be fitted with."""

from __future__ import annotations

from distill.config import ScalingProbe
from distill.metrics import accuracy, calibration_error, logit_scaling
from distill.metrics.measured import Measured
from distill.store.artifact import Artifact
from distill.training.network import load_predictions, refuse_no_held_out


def probe_scaling(config: ScalingProbe, network: Artifact) -> Measured:
    """What each map does to the predictions of the test set; it is fitted on the held-out ones alone.

    Returns:
        Values: `<method>_ece` (equal width), `<method>_ece_classwise`, `<method>_nll` in nats, `<method>_brier` and
        `<method>_accuracy`, which vector and platt may change; with the method temperature, `temperature_fitted`.

    Raises:
        UserError: the network has no held-out predictions.
    """
    held_out, held_out_labels = load_predictions(network, "held_out")
    refuse_no_held_out(network, held_out_labels, "scaling")
    logits, labels = load_predictions(network, "test")
    found: dict[str, float] = {}
    for method in config.methods:
        fitted = logit_scaling.fit(method, held_out, held_out_labels)
        if method == "temperature":
            found["temperature_fitted"] = 1 / fitted.scale.item()
        after = fitted.apply(logits)
        found |= {
            f"{method}_ece": calibration_error.ece(after, labels, config.bins),
            f"{method}_ece_classwise": calibration_error.ece_classwise(after, labels, config.bins),
            f"{method}_nll": accuracy.nll(after, labels),
            f"{method}_brier": calibration_error.brier(after, labels),
            f"{method}_accuracy": accuracy.accuracy(after, labels),
        }
    return Measured(found, {})
