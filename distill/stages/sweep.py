"""Run the sweep stage: measure networks trained with several label smoothings, and say which suits which aim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distill.config import StoredSplit, SweepConfig
from distill.errors import UserError
from distill.metrics.accuracy import nll
from distill.metrics.calibration_error import ece
from distill.metrics.chance import at_chance
from distill.metrics.choice import choose, listed
from distill.metrics.confidence import confidence_gap, under_confident
from distill.metrics.measures import BY_NAME, Measure, Topic, compute, defined, of_kind, usual
from distill.metrics.temperature import fit_temperature
from distill.metrics.verdict import interval
from distill.probes import temperatures
from distill.reports.columns import as_columns
from distill.reports.sweep_answers import write_page
from distill.store.artifact import Artifact
from distill.store.inputs import ArtifactOrReason, Inputs
from distill.store.key import key
from distill.store.outcome import Outcome
from distill.system.files import write_json
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, refuse_no_held_out

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Int64
    from torch import Tensor

SWEEP = "sweep.json"
BySeed = dict[int, float]
"""The value that a measure has for each seed."""
Measures = dict[float, dict[str, BySeed]]
"""Measures of one split: smoothing → name → seed → value."""


def _in_table(caption: str, *measures: Measure, beside: tuple[str, ...] = ()) -> tuple[Measure, ...]:
    topic = Topic(caption, beside)
    return tuple(replace(each, topic=topic) for each in measures)


_CALIBRATION = BY_NAME["brier"].topic
_MAIN = (
    *(each for each in of_kind("answers") if each.topic != _CALIBRATION),
    Measure("confidence_gap", "accuracy − confid.", "points", 2),
)
_OTHER_ERRORS = tuple(each for each in of_kind("answers") if each.topic == _CALIBRATION)
_MEASURES: dict[StoredSplit, tuple[Measure, ...]] = {
    "held_out": (
        *_in_table("Held-out images, which choose", *_MAIN),
        *_in_table("Other errors of calibration, held-out images", *_OTHER_ERRORS),
        *_in_table(
            "After temperature scaling, fitted on other held-out images",
            *temperatures.MEASURES,
            beside=("ece", "nll"),
        ),
        *_in_table(
            "What there is to teach, held-out images",
            *(each for each in (*usual("knowledge"), *of_kind("targets")) if each.topic),
        ),
    ),
    "test": (
        *_in_table("Test images, which choose nothing", *_MAIN, *temperatures.MEASURES),
        *_in_table("Other errors of calibration, test images", *_OTHER_ERRORS),
    ),
}
"""The measures of each split, in the tables in which the page shows them."""


def sweep(config: SweepConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Compare the networks of a sweep, and write which smoothing to take for accuracy, calibration and teaching."""
    return write_sweep(config, inputs.all(), folder)


def write_sweep(config: SweepConfig, networks: Mapping[str, ArtifactOrReason], folder: Path) -> Outcome:
    """Write `sweep.json`, the page `index.html`, the figure `sweep.svg` and `sweep.png`, and TensorBoard's `tb/`.

    Smoothing is chosen on held-out images (`distill.metrics.choice`); measures of the test set are only shown. A
    network that diverged, or that is no better than chance on held-out images, is reported and left out. Its
    strength of smoothing then has fewer seeds than the others and is not recommended; the others keep this seed.

    Args:
        config: the recipe, the strengths and the seeds.
        networks: key → artifact of a network, or the reason why it diverged.
        folder: folder to write to.

    Raises:
        UserError: there are no held-out images, or no network learned anything.
    """
    measured: dict[StoredSplit, Measures] = {"held_out": {}, "test": {}}
    diverged: list[dict[str, Any]] = []
    learned: Artifact | None = None
    for (smoothing, seed), recipe in config.networks().items():
        network = networks[key(recipe)]
        if isinstance(network, str):
            reason = network
        else:
            logits, labels = load_predictions(network, "held_out")
            refuse_no_held_out(recipe.data, len(labels), "a sweep")
            reason = at_chance(logits, labels)
        if isinstance(network, str) or reason:
            diverged.append({"smoothing": smoothing, "seed": seed, "reason": reason})
            continue
        learned = network
        for split, values in measure(network, config.bins).items():
            for name, value in values.items():
                measured[split].setdefault(smoothing, {}).setdefault(name, {})[seed] = value
    if learned is None:
        way_out = "Lower `optim.lr`, or train longer."
        raise UserError("sweep", f"{len(diverged)} networks", "one or more that learns something", way_out)
    images = len(load_predictions(learned, "held_out")[1])
    content: dict[str, Any] = {**_content(config, measured, images), "diverged": diverged}
    write_json(folder / SWEEP, content)
    write_page(content, f"{config.teacher.model.name} on {config.teacher.data.short_name}", folder)
    metrics = {f"smoothing_for/{use}": choice["smoothing"] for use, choice in content["choices"].items()}
    return Outcome(metrics, learned.record.data)


def _content(config: SweepConfig, measured: Mapping[StoredSplit, Measures], images: int) -> dict[str, Any]:
    """Return the content of `sweep.json`, without the diverged networks."""
    held_out = measured["held_out"]
    return {
        "data": config.teacher.data.short_name,
        "smoothings": list(config.smoothings),
        "seeds": sorted({seed for _, seed in config.networks()}),
        "held_out_images": images,
        "rows": [
            _row(smoothing, name, split, by_seed)
            for split, by_smoothing in measured.items()
            for smoothing in sorted(by_smoothing)
            for name, by_seed in by_smoothing[smoothing].items()
        ],
        "columns": {
            split: as_columns(_MEASURES[split], {name for values in by_smoothing.values() for name in values})
            for split, by_smoothing in measured.items()
        },
        "choices": {use: vars(choice) for use, choice in choose(held_out).items()},
        "notes": [f"Chosen on {images:,} held-out images.", *_notes(config, dict(sorted(held_out.items())))],
    }


def measure(network: Artifact, bins: int = 15) -> dict[StoredSplit, dict[str, float]]:
    """Measure a network's stored predictions on the held-out split and on the test set.

    Measures of both splits:
    - how right and how sure the network is (`distill.metrics.measures`, "answers");
    - `confidence_gap`: accuracy less confidence;
    - `under_confident`: 1 if the 95 % interval of this gap lies above 0, else 0;
    - `scaled_ece` and `scaled_nll`: after temperature scaling by a temperature of other images. For the test set it
      is fitted on all held-out images; for each half of the held-out images it is fitted on the other half.

    Measures of the held-out split alone: `scaled_temperature` (the temperature of all held-out images), the usual
    measures of knowledge at temperature 1, and `equivalent_smoothing` of the network's own answers. Measures that
    are not defined are left out.
    """
    held_out, held_out_labels = load_predictions(network, "held_out")
    temperature = fit_temperature(held_out, held_out_labels)
    values: dict[StoredSplit, dict[str, float]] = {
        "held_out": defined(
            _answers(held_out, held_out_labels, bins)
            | _scaled(scaled_by_halves(held_out, held_out_labels), held_out_labels, bins)
            | {"scaled_temperature": temperature}
            | compute((*usual("knowledge"), *of_kind("targets")), logits=held_out, labels=held_out_labels)
        )
    }
    logits, labels = load_predictions(network, "test")
    if len(labels):
        scaled = _scaled(logits.double() / temperature, labels, bins)
        values["test"] = defined(_answers(logits, labels, bins) | scaled)
    return values


def scaled_by_halves(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, "n k"]:
    """Divide logits by the temperature that is fitted on the other half of the samples.

    The samples of each class are dealt out to both halves in turn. A single sample, for which there is no other
    half, stays as it is.
    """
    if len(labels) < 2:
        return logits.double()
    # A calibration error grows as samples become fewer, so all samples are scaled and judged together.
    order = labels.argsort(stable=True)
    scaled = logits.double().clone()
    for judged, fitted in ((order[0::2], order[1::2]), (order[1::2], order[0::2])):
        scaled[judged] /= fit_temperature(logits[fitted], labels[fitted])
    return scaled


def _answers(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int) -> dict[str, float]:
    gap = confidence_gap(logits, labels)
    values = compute(of_kind("answers"), logits=logits, labels=labels, bins=bins)
    return values | {"confidence_gap": gap.gap, "under_confident": float(under_confident(gap))}


def _scaled(logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], bins: int) -> dict[str, float]:
    return {"scaled_ece": ece(logits, labels, bins), "scaled_nll": nll(logits, labels)}


def _row(smoothing: float, measure: str, split: StoredSplit, by_seed: BySeed) -> dict[str, Any]:
    mean, low, high = interval(by_seed[seed] for seed in sorted(by_seed))
    return {
        "smoothing": smoothing,
        "measure": measure,
        "split": split,
        "values": {str(seed): by_seed[seed] for seed in sorted(by_seed)},
        "mean": mean,
        # A single seed has no interval.
        "low": low if len(by_seed) > 1 else None,
        "high": high if len(by_seed) > 1 else None,
    }


def _notes(config: SweepConfig, held_out: Measures) -> list[str]:
    """Say what weakens a choice: wrong labels, too few images, networks that are not sure enough."""
    notes = []
    if rate := config.teacher.data.label_noise:
        notes.append(
            f"Of the held-out labels {100 * rate:g} % are wrong (data.label_noise): they choose by accuracy and "
            "calibration against wrong labels. The labels of the test set are right."
        )
    perfect = [smoothing for smoothing, values in held_out.items() if 1.0 in values["accuracy"].values()]
    if perfect:
        notes.append(
            f"At {listed(perfect)} a network has every held-out image right: its fitted temperature is a bound of "
            "the search and says little, and there are too few images to choose by. Hold out more (data.held_out)."
        )
    unsure = {each: values for each, values in held_out.items() if all(values["under_confident"].values())}
    if unsure:
        gaps = [
            f"{smoothing:g} ({100 * fmean(values['confidence_gap'].values()):.1f} points, "
            f"T = {fmean(values['scaled_temperature'].values()):.2f})"
            for smoothing, values in unsure.items()
        ]
        text = (
            f"Over-softened: at ε = {', '.join(gaps)} held-out accuracy is above mean confidence for every seed. "
            "In brackets by how much, and the temperature that scaling fits: one below 1 sharpens again."
        )
        if 0 in unsure:
            text += " Networks are too unsure without smoothing already, as after a short training."
        notes.append(text)
    return notes
