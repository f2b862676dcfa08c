"""Run stage 3: train a student, distilled from a cache or taught by labels alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from distill.cache import LogitCache
from distill.cache.soft_targets import smoothing_of_targets, soft_targets, with_temperature
from distill.config import StudentConfig
from distill.data.batch_share import BatchShare
from distill.data.loader import Loader
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.data.tokens import refuse_for_tokens
from distill.data.views.views import Views
from distill.errors import UserError
from distill.losses import make_loss
from distill.store.inputs import Inputs
from distill.store.outcome import Outcome
from distill.system.runtime import Runtime
from distill.training.class_weights import class_weights
from distill.training.targets import smoothing_matrix
from distill.training.train import train_network


def train_student(config: StudentConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Train the student of `config` in `folder`: weights, predictions, `metrics.jsonl` and `tb/`.

    Raises:
        UserError: the cache does not fit the images, a class to leave out does not exist, or an input is missing.
        Diverged: a loss was not finite.
    """
    cache, source = inputs.optional(config.cache), inputs.optional(config.smoothing_source)
    dataset = load(config.data, runtime.data_root, runtime.progress)
    refuse_for_tokens(dataset, config.data, config.augment)
    device = runtime.torch_device()
    logits = LogitCache(cache, device) if cache else None
    if logits is not None:
        logits.check_fits(dataset, views=config.views)
    cached = logits.config if logits is not None else None
    augment, view_seed = (cached.augment, cached.view_seed) if cached else (config.augment, config.seed)
    subset, begins_with = _transfer_subset(config, dataset), inputs.optional(config.init)
    dataset = dataset.normalised_as(begins_with and begins_with.data)
    views = (config.views or cached.views) if cached else None
    loader = Loader(
        Views.of_training(dataset, augment, view_seed, device, runtime.channels_last),
        config.schedule.batch_size,
        config.seed,
        cycle=views,
        subset=subset,
        workers=runtime.workers_for(),
        share=BatchShare.here(config.schedule.parts),
        balanced=config.data.balanced,
    )
    teacher, targets, taught = None, {}, config.loss
    if logits is not None and config.loss.alpha > 0:
        read = logits, dataset.train.labels
        taught = with_temperature(config.loss, *read, subset, views)
        teacher = soft_targets(logits, taught)
        smoothing = smoothing_of_targets(*read, taught, subset, views)
        targets = {} if smoothing is None else {"equivalent_smoothing": smoothing}
        targets |= {} if config.loss.equivalent_smoothing is None else {"temperature": taught.temperature}
    weights = class_weights(config.loss, dataset, subset)
    loss = make_loss(taught, smoothing_matrix(config.loss, dataset, source), weights)
    taught_by = None
    if config.cache is not None and config.cache.snapshot is None and len(config.cache.teachers) == 1:
        with suppress(UserError):  # a student needs its cache only, so the teacher may be gone
            taught_by = inputs.artifact(config.cache.teachers[0])
    outcome = train_network(
        config, dataset, loader, loss, folder, runtime, teacher, targets, taught_by, begins_with
    )
    if cache is None:
        return outcome
    # The record of a student says what it learned from, beside what it learned.
    of_cache = {f"cache/{name}": value for name, value in cache.record.metrics.items()}
    return Outcome(outcome.metrics | of_cache, outcome.data)


def _transfer_subset(config: StudentConfig, dataset: Dataset) -> torch.Tensor | None:
    if not config.exclude_classes:
        return None
    if dataset.label_shape:
        expected = f"none for {dataset.name}, whose samples have a label per position"
        raise UserError("exclude_classes", config.exclude_classes, expected, "Drop `exclude_classes`.")
    known = range(len(dataset.classes))
    if unknown := [cls for cls in config.exclude_classes if cls not in known]:
        way_out = f"Classes are numbered in this order: {', '.join(dataset.classes)}."
        raise UserError("exclude_classes", unknown, f"numbers from 0 to {len(known) - 1}", way_out)
    kept = (~torch.isin(dataset.train.labels, torch.tensor(config.exclude_classes))).nonzero().squeeze(1)
    if not len(kept):
        expected = "that a class is left to learn from"
        raise UserError("exclude_classes", config.exclude_classes, expected, "Leave out fewer classes.")
    return kept
