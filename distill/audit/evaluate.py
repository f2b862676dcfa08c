"""Compute every measure that one artifact allows, in groups, as `distill evaluate --measures all` prints them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from distill.cache import LogitCache
from distill.config import (
    AdoptedConfig,
    InformationProbe,
    KnowledgeProbe,
    NamedTeacher,
    NetworkConfig,
    StoredSplit,
    StudentConfig,
    TeacherConfig,
)
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.measured import Measured
from distill.metrics.measures import MEASURES, compute, defined, of_kind
from distill.probes import information
from distill.probes.knowledge import measures_of, outputs
from distill.reports.tables import ABSENT
from distill.stages.analysis import measure, measure_cache, own_teacher
from distill.store.artifact import Artifact
from distill.store.stages import title
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, network_config, training_data

_CLASSES = (0, 1)
"""Classes whose difference of logits enters the mutual information."""
_BITS = "bits tell only of images it was not trained on"
_EXPLAINED = {each.name: each.explained for each in (*MEASURES, *information.MEASURES)}

ValuesByMeasure = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Group:
    """Hold a table of measures that belong together, or the reason why there are none."""

    heading: str
    rows: ValuesByMeasure = field(default_factory=dict)
    """A value per column for each measure; NaN where a measure is not defined."""
    columns: tuple[str, ...] = ()
    """Names of the columns; empty where there is only one column."""
    missing: str = ""
    """The reason why there are no rows; empty where there are some."""


def usual_measures(artifact: Artifact, store: ArtifactStore, runtime: Runtime, split: StoredSplit) -> Measured:
    """Measure a network by its stored predictions, or a logit cache by its logits of every image's first view."""
    if artifact.config.stage == "cache":
        cache = LogitCache(artifact)
        return Measured(
            measure_cache(cache, load(cache.config.transfer_set, runtime.data_root, runtime.progress)), {}
        )
    config = network_config(artifact)
    teacher = own_teacher(config) if isinstance(config, StudentConfig) else None
    return measure(config, artifact, store.find(teacher) if teacher else None, split)


def measures_of_network(
    network: Artifact, store: ArtifactStore, runtime: Runtime, split: StoredSplit, temperature: float
) -> list[Group]:
    """Compute every measure that a teacher or a student allows.

    A group that cannot be computed gives its reason instead: the images are missing, the network has no linear
    head, or there is no teacher.

    Raises:
        UserError: the temperature is not positive, or the artifact holds no predictions on this split.
    """
    probe = KnowledgeProbe(temperature=temperature)
    config = network_config(network)
    recipe = own_teacher(config) if isinstance(config, StudentConfig) else None
    teacher = store.find(recipe) if recipe else None
    measured = measure(config, network, teacher, split)
    where, at = f"on the {_spoken(split)} images", f"T = {temperature:g}"
    if measured.diverged:
        return [Group(f"Predictions {where}", missing=f"It diverged: {measured.diverged}.")]
    logits, labels = load_predictions(network, split)
    given = {"labels": labels, "temperature": temperature}
    soft = defined(compute(of_kind("knowledge"), logits=logits, **given))
    fidelity, missing = {}, _without_teacher(config, recipe)
    if teacher is not None:
        other = load_predictions(teacher, split)[0]
        fidelity = defined(compute(of_kind("teacher"), student=logits, teacher=other, **given))
    plain = {name: value for name, value in measured.values.items() if name not in soft and name not in fidelity}
    return [
        Group(f"Predictions {where}", _rows(plain)),
        Group(f"Soft targets {where}, {at}", _rows(soft)),
        Group(f"Against its teacher {where}, {at}", _rows(fidelity), missing="" if teacher else missing),
        *_of_images(network, teacher, probe, runtime),
        _information(network, runtime),
    ]


def measures_of_cache(cache: Artifact, runtime: Runtime, temperature: float) -> list[Group]:
    """Compute every measure that a logit cache allows, from its logits of every image's first view.

    Raises:
        UserError: the temperature is not positive, the cache is truncated, its views are mixed, or its images are
            missing.
    """
    temperature = KnowledgeProbe(temperature=temperature).temperature
    opened = LogitCache(cache)
    dataset = load(opened.config.transfer_set, runtime.data_root, runtime.progress)
    usual = measure_cache(opened, dataset)
    given = {"labels": dataset.train.labels, "temperature": temperature}
    soft = defined(compute(of_kind("knowledge"), logits=opened.logits(torch.arange(len(opened))).float(), **given))
    plain = {name: value for name, value in usual.items() if name not in soft}
    return [
        Group("Logits on the transfer set", _rows(plain)),
        Group(f"Soft targets on the transfer set, T = {temperature:g} ({_BITS})", _rows(soft)),
    ]


def format_groups(groups: list[Group]) -> str:
    """Format groups for a terminal: aligned lines with measure, values, explanation and source."""
    names = max((len(name) for group in groups for name in group.rows), default=0)
    return "\n\n".join("\n".join(_lines(group, names)) for group in groups)


def _lines(group: Group, width: int) -> list[str]:
    if group.missing:
        return [f"{group.heading}: none. {group.missing}"]
    lines = [group.heading]
    if group.columns:
        lines.append(f"  {'':{width}}" + "".join(f"  {column:>10}" for column in group.columns))
    for name, values in group.rows.items():
        cells = "".join(f"  {ABSENT if math.isnan(value) else format(value, '.5g'):>10}" for value in values)
        lines.append(f"  {name:{width}}{cells}  {_EXPLAINED.get(name, '')}".rstrip())
    return lines


def _rows(*columns: Mapping[str, float]) -> ValuesByMeasure:
    """Put the measures of one or several columns side by side, with NaN where a column lacks a measure."""
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: tuple(column.get(name, math.nan) for column in columns) for name in names}


def _spoken(split: str) -> str:
    return {"held_out": "held-out", "train": "training"}.get(split, split)


def _without_teacher(config: NetworkConfig, recipe: NamedTeacher | None) -> str:
    """Say why there is no teacher to compare with."""
    if isinstance(config, AdoptedConfig):
        return "It was adopted, and what it learned from is not known."
    if recipe is not None:
        return f"Its teacher, {title(recipe)}, is not in the store."
    if isinstance(config, TeacherConfig) or config.cache is None or config.loss.alpha == 0:
        return "It learned from labels."
    if config.cache.snapshot is not None:
        return "It learned from a snapshot, and a teacher stores its predictions at the end of training only."
    return "Its teacher is not one trained network, so that there are no predictions of it."


def _of_images(network: Artifact, teacher: Artifact | None, probe: KnowledgeProbe, runtime: Runtime) -> list[Group]:
    """Measure the logits on training and held-out images, and how similar the activations are to the teacher's."""
    heading = f"Training and held-out images, T = {probe.temperature:g} ({_BITS})"
    try:
        by_split, weight, _ = outputs(probe, network, runtime)
    except UserError as error:
        return [Group(heading, missing=str(error))]
    columns = tuple(map(_spoken, by_split))
    rows = _rows(*(measures_of(seen, weight, probe.temperature) for seen in by_split.values()))
    groups = [Group(heading, rows, columns)]
    if teacher is not None:
        heading = "Penultimate activations beside its teacher's"
        try:
            of_teacher, _, _ = outputs(probe, teacher, runtime, training_data(network, runtime))
        except UserError as error:
            return [*groups, Group(heading, missing=str(error))]
        pairs = ((by_split[split].features, of_teacher[split].features) for split in by_split)
        alike = (compute(of_kind("activations"), features=features, other=other) for features, other in pairs)
        groups.append(Group(heading, _rows(*alike), columns))
    return groups


def _information(network: Artifact, runtime: Runtime) -> Group:
    """Estimate the mutual information between an image and the difference of two classes' logits after training."""
    heading = "Mutual information of an image and a difference of logits"
    try:
        values = information.final_information(InformationProbe(classes=_CLASSES), network, runtime)
    except UserError as error:
        return Group(heading, missing=str(error))
    names = " and ".join(network.data["classes"][cls] for cls in _CLASSES)
    return Group(f"{heading}, {names}", _rows(values))
