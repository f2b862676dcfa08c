"""Stage 3: a student, distilled from a cache or trained from labels alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from distill.artifact import Artifact
from distill.cache import LogitCache
from distill.config import LossConfig, StudentConfig
from distill.data.datasets import Dataset, load
from distill.data.loader import Join, Loader
from distill.errors import UserError
from distill.losses import make_loss, prepare
from distill.models import check_model
from distill.network import Outcome, train_network
from distill.runtime import Runtime

_TARGET_BYTES = 4 << 20
"""Soft targets made at a time."""


def train_student(config: StudentConfig, cache: Artifact | None, folder: Path, runtime: Runtime) -> Outcome:
    """Train the student of `config` in `folder`: weights, predictions, `metrics.jsonl` and `tb/`.

    Raises:
        UserError: the cache does not fit the images, a class to leave out does not exist, or an input is
            missing.
        Diverged: a loss was not finite.
    """
    dataset = load(config.data, runtime.data_root, runtime.progress)
    check_model(config.model, len(dataset.classes), dataset.shape)
    device = runtime.torch_device()
    logits = LogitCache(cache, device) if cache else None
    if logits is not None:
        logits.check_fits(dataset, views=config.views)
    views = logits.config if logits is not None else None
    loader = Loader(
        dataset.train,
        dataset.mean,
        dataset.std,
        views.augment if views else config.augment,
        seed=config.seed,
        batch_size=config.schedule.batch_size,
        device=device,
        views=(config.views or views.views) if views else None,
        view_seed=views.view_seed if views else None,
        subset=_transfer_subset(config, dataset),
        channels_last=runtime.channels_last,
        num_classes=len(dataset.classes),
        workers=runtime.workers_for(),
    )
    teacher = _soft_targets(logits, config.loss) if logits is not None and config.loss.alpha > 0 else None
    outcome = train_network(config, dataset, loader, make_loss(config.loss), folder, runtime, teacher)
    if cache is None:
        return outcome
    # What it learned from, beside what it learned.
    of_cache = {f"cache/{name}": value for name, value in cache.record.metrics.items()}
    return Outcome(outcome.metrics | of_cache, outcome.data)


def _soft_targets(logits: LogitCache, loss: LossConfig) -> Join:
    # With many classes the targets of a whole chunk of images would fill the memory.
    rows = max(1, _TARGET_BYTES // (4 * len(logits.classes)))

    def join(index: torch.Tensor, view: int, batch_size: int) -> Iterator[Any]:
        for part in index.split(max(1, rows // batch_size) * batch_size):
            yield from prepare(loss, logits.logits(part, view), batch_size)

    return join


def _transfer_subset(config: StudentConfig, dataset: Dataset) -> torch.Tensor | None:
    if not config.exclude_classes:
        return None
    known = range(len(dataset.classes))
    if unknown := [cls for cls in config.exclude_classes if cls not in known]:
        way_out = f"Classes are numbered in this order: {', '.join(dataset.classes)}."
        raise UserError("exclude_classes", unknown, f"numbers from 0 to {len(known) - 1}", way_out)
    kept = (~torch.isin(dataset.train.labels, torch.tensor(config.exclude_classes))).nonzero().squeeze(1)
    if not len(kept):
        way_out = "Leave out fewer with --exclude-classes."
        raise UserError("exclude_classes", config.exclude_classes, "that a class is left to learn from", way_out)
    return kept
