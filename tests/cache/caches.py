"""Make data sets and hashes that differ from a cache's own, and collect what a replay finds."""

from __future__ import annotations

from dataclasses import replace

import torch

from distill.audit.replay import replay
from distill.data.hashing import Stream, counter_hash
from distill.data.sets.dataset import Dataset, Split
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime


def reordered(dataset: Dataset) -> Dataset:
    """Return the data set with its samples in another order."""
    order = torch.arange(len(dataset.train)).flip(0)
    train = Split(dataset.train.images[order], dataset.train.labels[order])
    return replace(dataset, train=train, fingerprint="another")


def drew_otherwise(stream: Stream, seed: int, view: int, index: torch.Tensor) -> torch.Tensor:
    """Flip one bit of each hash, so that views draw other shifts to the side."""
    return counter_hash(stream, seed, view, index) ^ (1 << 42)


def findings(artifact: Artifact, store: ArtifactStore, runtime: Runtime) -> dict[str, bool | None]:
    """Replay 40 views, and map what was looked at to whether it fits."""
    return {finding.what: finding.ok for finding in replay(artifact, store, runtime, 40)}
