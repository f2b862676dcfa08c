"""Run the calibration stage: fit a map of a network's logits on held-out predictions, and measure its effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from distill.config import AdoptedConfig, CalibrationConfig, StoredSplit
from distill.errors import UserError
from distill.metrics import calibration_error, logit_scaling
from distill.metrics.confidence import Gap, confidence_gap, under_confident
from distill.metrics.diagram import draw_reliability, frame
from distill.metrics.measures import compute, of_kind
from distill.reports.tables import Grid, aligned
from distill.store.artifact import Artifact
from distill.store.inputs import Inputs
from distill.store.outcome import Outcome
from distill.system.reading import read_tensors
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, network_config, refuse_no_held_out
from distill.training.tracking import MetricWriter

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

SCALING = "scaling.safetensors"
RELIABILITY = "reliability.png"
SPLITS: tuple[StoredSplit, ...] = ("held_out", "test")
BEFORE = "_before"
"""Ending of the names of measures of the logits before calibration."""


def calibrate(config: CalibrationConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Calibrate a network: write the map of its logits, a reliability diagram and measures before and after.

    The map is fitted on the held-out images, so only the test set says what it is worth. The metrics `held_out/…`
    and `test/…` are of the calibrated probabilities; names that end in `_before` are of the network's own. The
    metric `temperature` is the temperature that held-out images choose, whatever the method.

    Raises:
        UserError: the network has no held-out predictions.
    """
    network = inputs.artifact(config.network)
    held_out, held_out_labels = load_predictions(network, "held_out")
    refuse_no_held_out(network, len(held_out_labels), "the fit of the map")
    fitted = temperature = logit_scaling.fit("temperature", held_out, held_out_labels)
    if config.method != "temperature":
        fitted = logit_scaling.fit(config.method, held_out, held_out_labels)
    save_file({"scale": fitted.scale.clone(), "bias": fitted.bias.clone()}, str(folder / SCALING))
    metrics = {"temperature": 1 / temperature.scale.item()}
    for split in SPLITS:
        logits, labels = load_predictions(network, split)
        for ending, judged in (("", fitted.apply(logits)), (BEFORE, logits)):
            metrics |= {f"{split}/{name}{ending}": value for name, value in measures(judged, labels).items()}
    logits, labels = load_predictions(network, "test")
    figure = _before_and_after(logits, fitted.apply(logits), labels, config.method)
    figure.savefig(folder / RELIABILITY, dpi=160)
    with MetricWriter(folder) as writer:
        writer.record(0, metrics)
        writer.text(0, "calibration", f"```\n{_before_to_after(metrics, config.method)}\n```")
        writer.figure(0, "test/reliability", figure)
    return Outcome(metrics, network.record.data)


def measures(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> dict[str, float]:
    """Measure how often logits are right and how sure they are, as a calibration artifact reports it."""
    return compute(of_kind("answers"), logits=logits, labels=labels)


def load_scaling(artifact: Artifact) -> logit_scaling.Scaling:
    """Read the map of logits from a calibration artifact.

    Raises:
        UserError: the artifact is of another stage, or its file is damaged.
    """
    config = artifact.config
    if not isinstance(config, CalibrationConfig):
        way_out = "Make one with `distill calibrate NETWORK`."
        raise UserError("artifact", str(artifact.path), f"a calibration, this is a {config.stage}", way_out)
    tensors = read_tensors(artifact.file(SCALING), {"scale": "F64 k", "bias": "F64 k"})
    return logit_scaling.Scaling(config.method, tensors["scale"], tensors["bias"])


def format_measures(made: Artifact) -> str:
    """Format every measure before → after on both splits, as a table for a terminal."""
    return _before_to_after(made.record.metrics, made.record.config["method"])


def _before_to_after(metrics: Mapping[str, float], method: str) -> str:
    rows = []
    for each in of_kind("answers"):
        values = ([metrics[f"{split}/{each.name}{ending}"] for ending in (BEFORE, "")] for split in SPLITS)
        cells = (" → ".join(f"{each.factor * value:.{each.decimals}f}" for value in pair) for pair in values)
        rows.append([each.title, *cells])
    return aligned(Grid(f"{method.capitalize()} scaling, before → after", ["", "held-out", "test"], rows))


def findings(made: Artifact, network: Artifact, temperature: float | None = None) -> list[str]:
    """Say in plain words whether a network is over- or under-confident before and after its calibration.

    The verdicts rest on intervals on test images.

    Args:
        made: artifact of the calibration.
        network: artifact of the calibrated network.
        temperature: temperature by which a user means to divide the network's logits; None if there is none.

    Raises:
        UserError: the temperature is not positive.
    """
    metrics, config = made.record.metrics, network_config(network)
    logits, labels = load_predictions(network, "test")
    before, after = confidence_gap(logits, labels), confidence_gap(load_scaling(made).apply(logits), labels)
    noise = config.data.label_noise
    fitted = f"Temperature that held-out images choose: {metrics['temperature']:.3g}"
    if noise:
        # Right labels would choose another temperature, so this one says nothing certain about the network.
        lines = [
            f"{fitted}. Of the held-out labels {100 * noise:g} % are wrong (data.label_noise), and the map makes "
            "the network as sure as it is right by these labels. Do not export it for images with right labels."
        ]
    else:
        held_out = confidence_gap(*load_predictions(network, "held_out"))
        all_right = metrics[f"held_out/accuracy{BEFORE}"] == 1
        reason = "how it was trained is not known"
        if not isinstance(config, AdoptedConfig):
            smoothed = config.loss.strongest > 0
            reason = (
                "smoothed labels are one reason, a short training another" if smoothed else "its labels are hard"
            )
        lines = [f"{fitted}{_of_temperature(metrics['temperature'], held_out, all_right, reason)}"]
    lines += [f"Test images, before: {in_words(before)}.", f"Test images, after: {in_words(after)}."]
    if under_confident(after) and not noise:
        lines.append("After the map it is under-confident still: held-out and test images differ, or they are few.")
    if temperature is not None:
        if not 0 < temperature < float("inf"):
            raise UserError("temperature", temperature, "a positive number", "Take 1 to leave the logits alone.")
        divided = confidence_gap(logits.double() / temperature, labels)
        lines.append(_of_wish(before, divided, temperature))
    return lines


def _of_temperature(temperature: float, held_out: Gap, all_right: bool, reason: str) -> str:
    """Say in words what the fitted temperature means: whether the network was too sure, or not sure enough."""
    if all_right:
        return ". The network has each of them right, so this is a bound of the search and says little."
    if temperature == 1:
        return ": by its NLL the network is as sure as it should be."
    side = "above" if temperature > 1 else "below"
    if not (under_confident(held_out) if temperature < 1 else held_out.high < 0):
        return f", {side} 1: by its NLL, while its mean confidence is about its accuracy."
    if temperature > 1:
        return ", above 1: by its NLL the network is over-confident."
    return (
        f", below 1: the network is under-confident (over-softened): {reason}. Dividing its logits by a "
        "temperature above 1 on top makes it worse."
    )


def _of_wish(before: Gap, after: Gap, temperature: float) -> str:
    """Say what dividing the logits by a temperature that the user chose would do."""
    text = f"Divided by T = {temperature:g} instead: {in_words(after)}."
    if under_confident(after) and temperature > 1:
        text += (
            " It was under-confident before: this softens it twice."
            if under_confident(before)
            else " This temperature is too high for it."
        )
    return text


def in_words(gap: Gap) -> str:
    """Say in words how confidence compares with accuracy."""
    interval = f"accuracy - confidence = {100 * gap.gap:+.2f} points [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    if under_confident(gap):
        return f"under-confident, {interval}"
    return f"over-confident, {interval}" if gap.high < 0 else f"neither over- nor under-confident, {interval}"


def _before_and_after(
    before: Float[Tensor, "n k"], after: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], method: str
) -> Any:
    """Draw the reliability diagrams before and after on one pair of axes, as a matplotlib figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6), facecolor="white")
    figure.set_layout_engine("constrained")
    diagram, histogram = figure.subplots(2, 1, gridspec_kw={"height_ratios": [3, 1]})
    for place, (name, logits) in enumerate((("before", before), (f"{method} scaling", after))):
        error = 100 * calibration_error.ece(logits, labels)
        bins = calibration_error.reliability(logits, labels)
        draw_reliability(diagram, histogram, bins, place, f"{name}: ECE {error:.2f} %")
    frame(diagram, histogram)
    diagram.legend(frameon=False, loc="upper left")
    return figure
