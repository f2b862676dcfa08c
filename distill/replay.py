"""Replay of a cache: a random sample of its pixels and logits is made again and compared with what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distill.artifact import Artifact, ArtifactStore, title
from distill.cache.logit_cache import LogitCache, view_loader
from distill.cache.manifest import check_data
from distill.cache.proof import Proof, by_view
from distill.config import ImportConfig
from distill.data.datasets import load
from distill.errors import UserError
from distill.network import WEIGHTS
from distill.teacher_logits import TeacherLogits

if TYPE_CHECKING:
    from distill.data.datasets import Dataset
    from distill.runtime import Runtime

TOLERANCE = 1e-4
"""Largest difference between a logit made again and the one of the proof, relative to the largest logit: another
batch, number of threads or machine rounds differently. On a GPU, or from one, `GPU_TOLERANCE`."""
GPU_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str


def replay(artifact: Artifact, store: ArtifactStore, runtime: Runtime, samples: int) -> Iterator[Finding]:
    """Check a cache against its images and its teacher.

    Args:
        artifact: the cache.
        store: where its teachers lie.
        runtime: device, data root, workers.
        samples: how many views to make again, at random, of those that the proof holds.

    Yields:
        What was found of: identity of the images, pixels, logits, stored rows.
    """
    cache = LogitCache(artifact)
    config = cache.config
    try:
        dataset = load(config.transfer_set, runtime.data_root, runtime.progress)
        check_data(cache.manifest.data, dataset, "")
    except UserError as error:
        yield Finding("images", False, str(error))
        return
    yield Finding("images", True, f"{len(cache)} samples, {len(cache.classes)} classes, in order")
    proof = cache.proof().random(samples)
    yield _rows(cache, proof)
    device, workers = runtime.torch_device(), runtime.workers_for()
    same = proof.same_pixels(view_loader(config, dataset, dataset.mean, dataset.std, device, 128))
    told = f"{int(same.sum())} of {len(proof)} views have the stored checksum"
    yield Finding("pixels", bool(same.all()), told)
    if isinstance(config.teacher, ImportConfig):
        declared = ", ".join(cache.manifest.declared)
        yield Finding("logits", True, f"imported: nothing to make again; declared, not proven: {declared}")
        return
    yield _logits(cache, proof, dataset, store, device, workers)


def _rows(cache: LogitCache, proof: Proof) -> Finding:
    """Stored rows against the exact logits that were kept beside them."""
    error = max(
        cache.encoding.rounding_error(proof.logits[rows], cache.rows(proof.index[rows], view))
        for view, rows in by_view(proof.view)
    )
    scale = float(proof.logits.abs().max())
    allowed = scale * (TOLERANCE + (2**-11 if cache.config.dtype == "float16" else 0))
    return Finding("rows", error <= allowed, f"differ from the exact logits by {error:.2g} (allowed {allowed:.2g})")


def _logits(
    cache: LogitCache, proof: Proof, dataset: Dataset, store: ArtifactStore, device: str, workers: int
) -> Finding:
    """The teacher's answers, made again."""
    teachers = [store.find(teacher) for teacher in cache.config.teachers]
    found = [teacher for teacher in teachers if teacher is not None]
    if len(found) < len(teachers):
        missing = ", ".join(
            title(config)
            for config, artifact in zip(cache.config.teachers, teachers, strict=True)
            if artifact is None
        )
        return Finding("logits", False, f"cannot be made again: the store has no {missing}")
    for artifact, known in zip(found, cache.manifest.teachers, strict=True):
        weights = artifact.record.files[WEIGHTS].sha256
        if weights != known.weights:
            return Finding(
                "logits", False, f"weights {weights[:12]} of the teacher are not the cache's {known.weights[:12]}"
            )
    teacher = TeacherLogits(cache.config, found, dataset, device, workers)
    again = [teacher.answer(proof.index[rows], view) for view, rows in by_view(proof.view)]
    difference = float((torch.cat(again) - proof.logits).abs().max())
    allowed = float(proof.logits.abs().max()) * (TOLERANCE if device == "cpu" else GPU_TOLERANCE)
    return Finding(
        "logits",
        difference <= allowed,
        f"{len(proof)} views asked again: largest difference {difference:.2g} (allowed {allowed:.2g})",
    )
