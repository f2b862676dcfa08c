"""Replay a cache: make a random sample of its pixels and logits again, and compare them with the stored ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distill.cache import LogitCache
from distill.cache.manifest import check_data
from distill.cache.proof import Proof, by_view
from distill.cache.teacher_logits import TeacherLogits
from distill.config import ImportConfig
from distill.data.sets.load import load
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.stages import title
from distill.store.store import ArtifactStore
from distill.training.network import weights_file

if TYPE_CHECKING:
    from distill.data.sets.dataset import Dataset
    from distill.system.runtime import Runtime

TOLERANCE = 1e-4
"""Largest difference that a new CPU logit may have from the logit of the proof, relative to the largest logit."""
# Another batch, number of threads or machine rounds differently.
GPU_TOLERANCE = 1e-2
"""Largest difference that is allowed where either logit comes from a GPU, relative to the largest logit."""


@dataclass(frozen=True)
class Finding:
    """Hold the result of one check of an artifact."""

    what: str
    """Name of what was checked."""
    ok: bool | None
    """Whether the check passed; None when it could not be made."""
    text: str
    """What the check measured, or why it failed."""


def replay(artifact: Artifact, store: ArtifactStore, runtime: Runtime, samples: int) -> Iterator[Finding]:
    """Check a cache against its images and its teacher: make some of its views and logits again.

    Args:
        artifact: artifact of the cache.
        store: store that has its teachers.
        runtime: device, data root and workers.
        samples: number of views to make again, drawn at random from the views of the proof.

    Yields:
        A finding each for the identity of the images, stored rows, pixels and logits.

    Raises:
        UserError: fewer than one sample is asked for, or the cache is not whole.
    """
    if samples < 1:
        raise UserError("samples", samples, "at least 1", "Raise `samples`.")
    cache = LogitCache(artifact)
    config = cache.config
    try:
        dataset = load(config.transfer_set, runtime.data_root, runtime.progress)
    except UserError as error:
        yield Finding("images", None, str(error))
        return
    try:
        check_data(cache.manifest.data, dataset, "")
    except UserError as error:
        yield Finding("images", False, str(error))
        return
    yield Finding("images", True, f"{len(cache)} samples, {len(cache.classes)} classes, in order")
    proof = cache.proof().random(samples)
    device, workers = runtime.torch_device(), runtime.workers_for()
    exact = device == artifact.record.provenance.get("device") == "cpu"
    tolerance = TOLERANCE if exact else GPU_TOLERANCE
    yield _rows(cache, proof, tolerance)
    same = proof.same_pixels(cache.views_of(dataset, device))
    told = f"{int(same.sum())} of {len(proof)} views have the stored checksum"
    yield Finding("pixels", bool(same.all()), told)
    if isinstance(config.teacher, ImportConfig):
        declared = ", ".join(cache.manifest.declared)
        yield Finding("logits", True, f"imported: nothing to make again; declared, not proven: {declared}")
        return
    try:
        teacher = _teacher(cache, dataset, store, device, workers)
    except UserError as error:
        yield Finding("logits", None, str(error))
        return
    yield _logits(cache, proof, teacher, tolerance)


def _rows(cache: LogitCache, proof: Proof, tolerance: float) -> Finding:
    """Check a cache's stored logits against the unrounded ones that it also keeps, for a sample of its views."""
    error = max(
        cache.encoding.rounding_error(proof.logits[rows], cache.rows(proof.index[rows], view))
        for view, rows in by_view(proof.view)
    )
    scale = float(proof.logits.abs().max())
    allowed = scale * (tolerance + (2**-11 if cache.config.dtype == "float16" else 0))
    return Finding("rows", error <= allowed, f"differ from the exact logits by {error:.2g} (allowed {allowed:.2g})")


def _teacher(cache: LogitCache, dataset: Dataset, store: ArtifactStore, device: str, workers: int) -> TeacherLogits:
    """Load the teachers of a cache from the store; refuse a teacher whose weights have changed since.

    Raises:
        UserError: a teacher is missing or damaged, or its weights have changed.
    """
    teachers = []
    for config, known in zip(cache.config.teachers, cache.manifest.teachers, strict=True):
        teacher = store.find(config)
        if teacher is None:
            way_out = "Without it no logits can be made again."
            raise UserError("teacher", title(config), "a teacher that is in the store", way_out)
        weights = teacher.record.files[weights_file(teacher, cache.config.snapshot)].sha256
        if weights != known.weights:
            expected = f"the weights that made the cache, {known.weights[:12]}"
            raise UserError("teacher.weights", weights[:12], expected, "It was trained anew: make the cache again.")
        teachers.append(teacher)
    return TeacherLogits(cache.config, teachers, dataset, device, workers)


def _logits(cache: LogitCache, proof: Proof, teacher: TeacherLogits, tolerance: float) -> Finding:
    """Check the teacher's recomputed logits against unrounded ones that a cache keeps for a sample of its views."""
    again = [teacher.answer(proof.index[rows], view) for view, rows in by_view(proof.view)]
    difference = float((torch.cat(again) - proof.logits).abs().max())
    allowed = tolerance * float(proof.logits.abs().max())
    return Finding(
        "logits",
        difference <= allowed,
        f"{len(proof)} views asked again: largest difference {difference:.2g} (allowed {allowed:.2g})",
    )
