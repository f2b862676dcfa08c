"""Run stage 2: store a teacher's logits on every view of every image of a transfer set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.cache.fitness import SAMPLES, least_accuracy, refuse_if_training, refuse_if_wrong
from distill.cache.manifest import TeacherIdentity
from distill.cache.teacher_logits import TeacherLogits
from distill.cache.writing import make_manifest, write_cache
from distill.config import AugmentConfig, CacheConfig, ImportConfig, TeacherConfig
from distill.data.network_input import NetworkInput
from distill.data.sets.load import load
from distill.data.tokens import refuse_cache
from distill.errors import UserError
from distill.metrics.accuracy import accuracy
from distill.store.artifact import Artifact
from distill.store.inputs import Inputs
from distill.store.outcome import Outcome
from distill.store.stages import title
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.training.network import network_config, weights_file

if TYPE_CHECKING:
    from torch import Tensor

    from distill.data.sets.dataset import Dataset


def cache_logits(config: CacheConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Write the logits of `config.teachers` on the training split of the transfer set.

    Raises:
        UserError: imported logits are not in the store any more; a teacher knows other classes, takes another
            input, or gives logits that do not fit the cache's dtype; the disk is too small; or the samples have a
            label per position.
        UnfitTeacher: the teacher is not in evaluation mode, or is wrong too often on the views of this cache.
    """
    if isinstance(config.teacher, ImportConfig):
        way_out = "Import the files again, with the settings of the first time: `distill import FILES`."
        raise UserError("cache", title(config), "imported logits that are in the store", way_out)
    teachers = [inputs.artifact(teacher) for teacher in config.teachers]
    dataset = load(config.transfer_set, runtime.data_root, runtime.progress)
    refuse_cache(dataset)
    teacher = TeacherLogits(config, teachers, dataset, runtime.torch_device(), runtime.workers_for())
    reached = ranks.on_first(lambda: _fitness(teacher, teachers, dataset, runtime))
    manifest = make_manifest(config, dataset, tuple(identify(artifact, config.snapshot) for artifact in teachers))
    metrics = write_cache(
        folder, config, manifest, teacher.views, teacher.of_shard, teacher.answer, runtime.progress
    )
    return Outcome(metrics | {"gate/accuracy": reached}, dataset.identity())


def identify(teacher: Artifact, snapshot: int | None = None) -> TeacherIdentity:
    """Return the identity of a teacher, or of a snapshot of it: its weights and its preprocessing."""
    takes, kwargs = NetworkInput.of(teacher.data), network_config(teacher).data.kwargs
    folder = "bilinear" if "size" in kwargs else "none"
    return TeacherIdentity(
        title=title(teacher.config),
        key=teacher.record.key,
        weights=teacher.record.files[weights_file(teacher, snapshot)].sha256,
        mean=takes.mean,
        std=takes.std,
        size=takes.shape,
        interpolation=folder if takes.interpolation == "none" else takes.interpolation,
        crop=takes.crop,
    )


def _fitness(teacher: TeacherLogits, artifacts: Sequence[Artifact], dataset: Dataset, runtime: Runtime) -> float:
    """Return the accuracy on a sample of the first view, as the student will see it; refuse an unfit teacher."""
    index = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    index = index.to(runtime.torch_device())
    with torch.inference_mode():
        for network, images in teacher.networks_and_images(index[:64], 0):
            refuse_if_training(network, images)
    logits, labels = _answers(teacher, index)
    # The accuracy in a record is that of the final weights, which says nothing about an early snapshot.
    whole = [] if teacher.config.snapshot is not None else artifacts
    known = [artifact.record.metrics.get("held_out/accuracy") for artifact in whole]
    least = runtime.min_teacher_accuracy
    if least is None:
        least = least_accuracy(labels, min((value for value in known if value is not None), default=None))
    way_out = {}
    if teacher.config.augment != AugmentConfig() and accuracy(logits, labels) < least:
        plain = teacher.config.replace(augment=AugmentConfig(), views=1)
        reached = accuracy(*_answers(TeacherLogits(plain, artifacts, dataset, runtime.torch_device()), index))
        if reached >= least:
            seen = all(network_config(artifact).augment == teacher.config.augment for artifact in artifacts)
            cause = "these views are too hard for it" if seen else "it was trained without these views"
            known = all(isinstance(artifact.config, TeacherConfig) for artifact in artifacts)
            told = cause if known else "these views may be none that it was trained on"
            reason = f"It is right on {reached:.1%} of these images as they are: {told}"
            way_out = {"way_out": f"{reason}. Train it on such views, or take milder ones"}
    accept = runtime.accept_class_order
    return refuse_if_wrong(logits, labels, dataset.classes, least, **way_out, accept_class_order=accept)


def _answers(teacher: TeacherLogits, index: Tensor) -> tuple[Tensor, Tensor]:
    pieces = list(teacher.pieces(index, 0))
    return torch.cat([piece.logits for piece in pieces]), torch.cat([piece.labels for piece in pieces])
