"""Stage 4: measures of trained networks, from the predictions that each stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill.artifact import Artifact, key, write_json
from distill.cache import LogitCache
from distill.config import AnalysisConfig, StudentConfig, TeacherConfig
from distill.data.datasets import Dataset
from distill.losses import in_uniform
from distill.metrics import accuracy, calibration, dark_knowledge, unseen
from distill.metrics.measured import Measured
from distill.network import Outcome, load_predictions
from distill.probes import probe
from distill.runtime import Runtime

MEASURES = "measures.json"


def analyse(
    config: AnalysisConfig, networks: Mapping[str, Artifact | str], folder: Path, runtime: Runtime
) -> Outcome:
    """Write `measures.json`: key of each run → its measures; and what its probes have to show, to `tb/`.

    Args:
        config: what to measure.
        networks: key → artefact of a run, or the reason why it diverged.
        folder: where to write.
        runtime: device and data root, for probes.
    """
    found = {}
    for run in config.runs:
        network = networks[key(run)]
        if isinstance(network, str):
            found[key(run)] = vars(Measured({}, {}, network))
            continue
        cache = run.cache if isinstance(run, StudentConfig) and run.loss.alpha > 0 else None
        own = cache.teacher if cache and isinstance(cache.teacher, TeacherConfig) else None
        teacher = own or (config.reference if isinstance(run, StudentConfig) else None)
        compared = networks.get(key(teacher)) if teacher else None
        other = compared if isinstance(compared, Artifact) else None
        measured = measure(run, network, other, config.split, config.bins)
        if own and other and (chance := _at_chance(*load_predictions(other, config.split))):
            measured = Measured({}, {}, f"its teacher diverged: {chance}")
        if not measured.diverged:
            for wanted in config.probes:
                measured = measured.joined(probe(wanted, network, runtime, folder / "tb"))
        found[key(run)] = vars(measured)
    write_json(folder / MEASURES, found)
    first = next((network for network in networks.values() if isinstance(network, Artifact)), None)
    return Outcome({"runs": len(found)}, first.record.data if first else {})


def measure(
    config: TeacherConfig | StudentConfig,
    network: Artifact,
    teacher: Artifact | None,
    split: Any = "test",
    bins: int = 15,
) -> Measured:
    """All measures of one network on one split.

    Args:
        config: of the network; tells which class it never saw.
        network: its artefact.
        teacher: whom to compare it with, if anyone.
        split: "test" or "held_out".
        bins: of the calibration error.
    """
    logits, labels = load_predictions(network, split)
    chance = _at_chance(logits, labels)
    if chance:
        return Measured({}, {}, chance)
    values = _values(logits, labels, dark_knowledge.interclass_variance(logits, labels), bins)
    smoothing = _uniform_smoothing(config, logits.shape[1])
    if smoothing is not None:
        values["equivalent_smoothing"] = smoothing
    if smoothing:
        values["optimal_gap"] = dark_knowledge.optimal_gap(smoothing, logits.shape[1])
    if teacher is not None:
        of_teacher, _ = load_predictions(teacher, split)
        values["agreement"] = accuracy.agreement(logits, of_teacher)
        values["kl"] = accuracy.predictive_kl(logits, of_teacher)
    if isinstance(config, StudentConfig) and len(config.exclude_classes) == 1:
        cls = config.exclude_classes[0]
        values |= _unseen_measures(logits, labels, cls, network.record.data["priors"][cls])
    values |= _of_cache(network) | _of_targets(network)
    diagram = calibration.reliability(logits, labels, bins)
    curves = {
        "reliability_confidence": _finite(diagram.confidence),
        "reliability_accuracy": _finite(diagram.accuracy),
        "reliability_count": _finite(diagram.count),
        "nontarget_spread": _finite(dark_knowledge.nontarget_spread(logits, labels)),
    }
    # A class without a sample in this split has no recall.
    return Measured({name: value for name, value in values.items() if not math.isnan(value)}, curves)


def measure_cache(cache: LogitCache, dataset: Dataset, view: int = 0, bins: int = 15) -> dict[str, float]:
    """Measures of a teacher's cached logits on one view of the transfer set.

    Raises:
        UserError: the cache is truncated, or belongs to other images.
    """
    cache.check_fits(dataset)
    labels = dataset.train.labels
    variance = cache.interclass_variance(labels, view)
    return _values(cache.logits(torch.arange(len(cache)), view).float(), labels, variance, bins)


def _values(
    logits: torch.Tensor, labels: torch.Tensor, variance: dark_knowledge.InterclassVariance, bins: int
) -> dict[str, float]:
    return {
        "accuracy": accuracy.accuracy(logits, labels),
        "nll": accuracy.nll(logits, labels),
        "ece": calibration.ece(logits, labels, bins),
        "brier": calibration.brier(logits, labels),
        "confidence": calibration.mean_max_probability(logits),
        "interclass_variance": variance.total,
        "interclass_variance_relative": variance.relative,
        "interclass_variance_within": variance.within,
        "interclass_variance_between": variance.between,
        "gap": variance.gap,
    }


def _uniform_smoothing(config: TeacherConfig | StudentConfig, classes: int) -> float | None:
    """Smoothing of the labels, in the uniform convention; None where a network learned from other targets too."""
    if isinstance(config, StudentConfig) and config.loss.alpha > 0:
        return None
    cache = config.cache if isinstance(config, StudentConfig) else None
    if (cache.augment if cache else config.augment).mixes:
        return None
    labels = config if isinstance(config, TeacherConfig) else config.loss
    return in_uniform(labels.smoothing, labels.smoothing_convention, classes)


def _unseen_measures(logits: torch.Tensor, labels: torch.Tensor, cls: int, prior: float) -> dict[str, float]:
    return {
        "unseen_recall": unseen.recall(logits, labels, cls),
        "unseen_recall_corrected": unseen.corrected_recall(logits, labels, cls, prior),
        "unseen_auc": unseen.margin_auc(logits, labels, cls),
    }


def _of_cache(network: Artifact) -> dict[str, float]:
    """What is known of the cache that a student learned from: `cache_bytes_per_view`, `cache_tv_T4`, …"""
    metrics = network.record.metrics.items()
    return {name.replace("/", "_"): value for name, value in metrics if name.startswith("cache/")}


def _of_targets(network: Artifact) -> dict[str, float]:
    """What is known of the soft targets that a network learned from: `equivalent_smoothing`."""
    metrics = network.record.metrics.items()
    return {name.removeprefix("targets/"): value for name, value in metrics if name.startswith("targets/")}


def _at_chance(logits: torch.Tensor, labels: torch.Tensor) -> str | None:
    """Why a network counts as diverged: no better than the most frequent class, by three standard errors."""
    if not torch.isfinite(logits).all():
        return "logits are not finite"
    chance = float(labels.bincount().max()) / len(labels)
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / len(labels))
    reached = accuracy.accuracy(logits, labels)
    return f"accuracy at chance ({reached:.3f})" if reached <= bound else None


def _finite(values: torch.Tensor) -> list[float]:
    return [float(value) for value in torch.nan_to_num(values.double())]
