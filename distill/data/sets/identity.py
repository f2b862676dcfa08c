"""What tells a data set apart, as a record keeps it."""

from __future__ import annotations

from typing import Any

from distill.config import IGNORED
from distill.data.sets.dataset import Dataset


def identity(dataset: Dataset) -> dict[str, Any]:
    """What tells a data set apart, as the record keeps it."""
    labels = dataset.train.labels[dataset.train.labels != IGNORED]
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "fingerprint": dataset.fingerprint,
        "sizes": {name: len(getattr(dataset, name)) for name in ("train", "held_out", "test")},
        "priors": (labels.bincount(minlength=len(dataset.classes)) / len(labels)).tolist(),
    }
