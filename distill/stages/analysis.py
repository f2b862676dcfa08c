"""Run stage 4: measure trained networks by the predictions that each stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.cache import LogitCache
from distill.config import (
    AdoptedConfig,
    AnalysisConfig,
    KnowledgeProbe,
    NamedTeacher,
    NetworkConfig,
    StoredSplit,
    StudentConfig,
    TeacherConfig,
)
from distill.data.sets.dataset import Dataset
from distill.errors import UserError
from distill.losses import has_one_smoothing, in_uniform
from distill.metrics import calibration_error, dark_knowledge
from distill.metrics.chance import at_chance
from distill.metrics.measured import MEASURES_FILE, Measured
from distill.metrics.measures import HELD_OUT, compute, defined, of_kind, usual
from distill.probes import probe
from distill.store.artifact import Artifact
from distill.store.inputs import ArtifactOrReason, Inputs
from distill.store.key import key
from distill.store.outcome import Outcome
from distill.system.files import write_json
from distill.system.runtime import Runtime
from distill.training.network import hold_out, load_predictions, network_config

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor


def analyse(config: AnalysisConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Write `measures.json`, from the key of each run to its measures, and the plots of the probes to `tb/`."""
    by_key, networks = {}, inputs.all()
    for run in config.runs:
        network = networks[key(run)]
        if isinstance(network, str):
            by_key[key(run)] = vars(Measured({}, {}, network))
            continue
        measured = _compared(run, network, config, networks)
        for wanted in () if measured.diverged else config.probes:
            if isinstance(wanted, KnowledgeProbe) and wanted.teachers_only and isinstance(run, StudentConfig):
                continue
            measured = measured.joined(probe(wanted, network, runtime, folder / "tb"))
        by_key[key(run)] = vars(measured)
    write_json(folder / MEASURES_FILE, by_key)
    first = next((network for network in networks.values() if isinstance(network, Artifact)), None)
    return Outcome({"runs": len(by_key)}, first.record.data if first else {})


def _compared(
    run: NetworkConfig,
    network: Artifact,
    config: AnalysisConfig,
    networks: Mapping[str, ArtifactOrReason],
) -> Measured:
    """Measure a network, compared with its own teacher (else with the config's reference network), and with a
    teacher that was trained independently.
    """
    own = own_teacher(run) if isinstance(run, StudentConfig) else None
    teacher = own
    # Agreement of a student of a snapshot with the reference would be taken for agreement with its own teacher.
    if own is None and isinstance(run, StudentConfig) and (run.cache is None or run.cache.snapshot is None):
        teacher = config.reference
    compared = networks.get(key(teacher)) if teacher else None
    other = compared if isinstance(compared, Artifact) else None
    if own and other and (chance := at_chance(*_predictions(other, config.split))):
        return Measured({}, {}, f"its teacher diverged: {chance}")
    independent = independent_teacher(own if isinstance(run, StudentConfig) else run, config, networks)
    return measure(run, network, other, config.split, config.bins, independent)


def own_teacher(config: StudentConfig) -> NamedTeacher | None:
    """Return the network whose answers a student learned from, if its predictions are stored.

    Return None for a student of labels alone, of an ensemble, of imported logits, or of a snapshot.
    """
    cache = config.cache
    # A teacher stores its predictions at the end of training, and no predictions of its snapshots.
    if cache is None or config.loss.alpha == 0 or cache.snapshot is not None:
        return None
    return cache.teacher if isinstance(cache.teacher, TeacherConfig | AdoptedConfig) else None


def independent_teacher(
    recipe: NamedTeacher | None, config: AnalysisConfig, networks: Mapping[str, ArtifactOrReason]
) -> Artifact | None:
    """Return a network above chance whose config differs from `recipe` only in its seed; None if there is none."""
    if not isinstance(recipe, TeacherConfig):  # of an adopted network no twin with another seed is known
        return None
    for other in config.independent:
        network = networks.get(key(other))
        is_twin = other.seed != recipe.seed and recipe.replace(seed=other.seed) == other
        if is_twin and isinstance(network, Artifact) and not at_chance(*_predictions(network, config.split)):
            return network
    return None


def measure(
    config: NetworkConfig,
    network: Artifact,
    teacher: Artifact | None,
    split: StoredSplit = "test",
    bins: int = 15,
    independent: Artifact | None = None,
) -> Measured:
    """Measure one network on one split by all usual measures of `distill.metrics.measures`.

    The measures `held_out_*`, by which smoothing can be chosen, are always of the held-out images. With a teacher,
    the result has fidelity to it at temperature 1. With an independent teacher it has `agreement_independent` and
    `kl_independent`, computed as `agreement` and `kl` (Stanton et al. 2021: only what exceeds them is fidelity, the
    rest is likeness to any good network). If the network is itself a teacher they compare two runs of one recipe,
    and `similarity_independent` is the rank correlation of their class similarities. A measure that is not defined
    (a class without a sample, two classes) is left out.

    Args:
        config: config of the network.
        network: artifact of the network.
        teacher: teacher to compare the network with; None compares with none.
        split: split of the predictions.
        bins: number of bins of the calibration error.
        independent: a teacher of another seed; None if there is none.

    Raises:
        UserError: the network has no predictions on this split.
    """
    logits, labels = _predictions(network, split)
    if chance := at_chance(logits, labels):
        return Measured({}, {}, chance)
    values = compute(usual("answers", "knowledge"), logits=logits, labels=labels, bins=bins)
    values |= _of_held_out(network, bins)
    smoothing = _uniform_smoothing(config, logits.shape[1])
    if smoothing is not None:
        values["equivalent_smoothing"] = smoothing
    if smoothing:
        values["optimal_gap"] = dark_knowledge.optimal_gap(smoothing, logits.shape[1])
    if teacher is not None:
        other = load_predictions(teacher, split)[0]
        values |= compute(usual("teacher"), student=logits, teacher=other, labels=labels)
    if independent is not None:
        other = load_predictions(independent, split)[0]
        values |= compute(of_kind("independent"), student=logits, teacher=other, labels=labels)
        if isinstance(config, StudentConfig):
            # Only between two runs of one recipe does it say how much chance is in the similarity of classes.
            del values["similarity_independent"]
    if isinstance(config, StudentConfig) and config.exclude_classes:
        values |= _of_unseen(logits, labels, set(config.exclude_classes), network.data["priors"])
    values |= _recorded(network)
    diagram = calibration_error.reliability(logits, labels, bins)
    curves = {
        "reliability_confidence": _finite(diagram.confidence),
        "reliability_accuracy": _finite(diagram.accuracy),
        "reliability_count": _finite(diagram.count),
        "nontarget_spread": _finite(dark_knowledge.nontarget_spread(logits, labels)),
    }
    return Measured(defined(values), curves)


def _of_held_out(network: Artifact, bins: int) -> dict[str, float]:
    """Compute, on held-out images, the measures by which smoothing is chosen; none if no image is held out."""
    logits, labels = load_predictions(network, "held_out")
    if not len(labels):
        return {}
    chosen_by = [each for each in of_kind("answers", "knowledge") if each.use]
    values = compute(chosen_by, logits=logits, labels=labels, bins=bins).values()
    return {each.name: value for each, value in zip(HELD_OUT, values, strict=True)}


def _predictions(network: Artifact, split: StoredSplit) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
    """Load the predictions of a split, and refuse a split without samples.

    Raises:
        UserError: the split has no samples.
    """
    logits, labels = load_predictions(network, split)
    if not len(labels):
        way_out = f" {hold_out(network_config(network).data)}" if split == "held_out" else ""
        expected = f"one that has images, for {network.path.name}"
        raise UserError("split", split, expected, f"Take the other split.{way_out}")
    return logits, labels


def measure_cache(cache: LogitCache, dataset: Dataset, view: int = 0, bins: int = 15) -> dict[str, float]:
    """Compute the usual measures of a teacher's cached logits, for one view of every image of the transfer set.

    Raises:
        UserError: the cache is truncated, its views are mixed, or it belongs to other images.
    """
    cache.check_fits(dataset)
    logits, labels = cache.logits_of_view(view).float(), dataset.train.labels
    # `bits_beyond_top1` misleads on images that the teacher was trained on.
    measures = [each for each in usual("answers", "knowledge") if each.name != "bits_beyond_top1"]
    return defined(compute(measures, logits=logits, labels=labels, bins=bins))


def _uniform_smoothing(config: NetworkConfig, classes: int) -> float | None:
    """Return the labels' smoothing ε, counted over all K classes; None unless the targets are labels with one ε."""
    if isinstance(config, AdoptedConfig) or (isinstance(config, StudentConfig) and config.loss.alpha > 0):
        return None
    if config.shown.mixes:
        return None
    loss = config.loss
    if loss.smoothing_convention == "maxsup" or not has_one_smoothing(loss):
        return None
    return in_uniform(loss.smoothing, loss.smoothing_convention, classes)


def _of_unseen(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], classes: set[int], priors: list[float]
) -> dict[str, float]:
    """Measure what a student knows of classes that it never saw; `priors` are the shares of all classes."""
    if len(classes) == 1:
        (cls,) = classes
        return compute(of_kind("unseen class"), logits=logits, labels=labels, cls=cls, prior=priors[cls])
    seen = set(range(len(priors))) - classes
    # Shares are stored as float32: their sum may be a hair above 1.
    prior = min(1.0, sum(priors[cls] for cls in seen))
    given = {"logits": logits, "labels": labels, "classes": classes, "seen_classes": seen, "prior": prior}
    return compute(of_kind("unseen classes"), **given)


def _recorded(network: Artifact) -> dict[str, float]:
    """Read from a network's record numbers about its cache, such as `cache_bytes_per_view`, and about its targets,
    such as `equivalent_smoothing`.
    """
    metrics = network.record.metrics.items()
    of_cache = {name.replace("/", "_"): value for name, value in metrics if name.startswith("cache/")}
    of_targets = {name.removeprefix("targets/"): value for name, value in metrics if name.startswith("targets/")}
    return of_cache | of_targets


def _finite(values: Tensor) -> list[float]:
    return [float(value) for value in torch.nan_to_num(values.double())]
