"""Run stage 3: train a student, distilled from a cache or taught by labels alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from distill.cache import LogitCache
from distill.config import LossConfig, StudentConfig
from distill.data.batch_share import BatchShare
from distill.data.loader import Join, Loader
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.data.tokens import refuse_augment
from distill.data.views.views import Views
from distill.errors import UserError
from distill.losses import TeacherRows, has_one_smoothing, in_uniform, make_loss, prepare
from distill.metrics.dark_knowledge import equivalent_smoothing
from distill.models import check_model
from distill.store.inputs import Inputs
from distill.store.outcome import Outcome
from distill.system.runtime import Runtime
from distill.training.targets import smoothing_matrix
from distill.training.train import train_network

_TARGET_BYTES = 4 << 20
"""Bytes of soft targets that are made at a time."""
_MEASURED = 50_000
"""Largest number of samples over which the equivalent smoothing of soft targets is averaged."""


def train_student(config: StudentConfig, inputs: Inputs, folder: Path, runtime: Runtime) -> Outcome:
    """Train the student of `config` in `folder`: weights, predictions, `metrics.jsonl` and `tb/`.

    Raises:
        UserError: the cache does not fit the images, a class to leave out does not exist, or an input is missing.
        Diverged: a loss was not finite.
    """
    cache, source = inputs.optional(config.cache), inputs.optional(config.smoothing_source)
    dataset = load(config.data, runtime.data_root, runtime.progress)
    refuse_augment(dataset, config.augment)
    check_model(config.model, len(dataset.classes), dataset.shape, dataset.label_shape)
    device = runtime.torch_device()
    logits = LogitCache(cache, device) if cache else None
    if logits is not None:
        logits.check_fits(dataset, views=config.views)
    cached = logits.config if logits is not None else None
    augment, view_seed = (cached.augment, cached.view_seed) if cached else (config.augment, config.seed)
    loader = Loader(
        Views.of_training(dataset, augment, view_seed, device, runtime.channels_last),
        config.schedule.batch_size,
        config.seed,
        cycle=(config.views or cached.views) if cached else None,
        subset=_transfer_subset(config, dataset),
        workers=runtime.workers_for(),
        share=BatchShare.here(config.schedule.parts),
    )
    teacher = _soft_targets(logits, config.loss) if logits is not None and config.loss.alpha > 0 else None
    targets = _measures_of_targets(config, dataset, logits)
    loss = make_loss(config.loss, smoothing_matrix(config.loss, dataset, source))
    outcome = train_network(config, dataset, loader, loss, folder, runtime, teacher, targets)
    if cache is None:
        return outcome
    # The record of a student says what it learned from, beside what it learned.
    of_cache = {f"cache/{name}": value for name, value in cache.record.metrics.items()}
    return Outcome(outcome.metrics | of_cache, outcome.data)


def _soft_targets(logits: LogitCache, loss: LossConfig) -> Join[TeacherRows]:
    # With many classes the targets of a whole chunk of images would fill the memory.
    rows = max(1, _TARGET_BYTES // (4 * len(logits.classes)))

    def join(index: torch.Tensor, view: int, batch_size: int) -> Iterator[TeacherRows]:
        for part in index.split(max(1, rows // batch_size) * batch_size):
            yield from prepare(loss, logits.logits(part, view), batch_size)

    return join


def _measures_of_targets(config: StudentConfig, dataset: Dataset, cache: LogitCache | None) -> dict[str, float]:
    """Return the `equivalent_smoothing` of all targets: (1 - alpha) ε + alpha γ (Müller 2019, section 4).

    ε is the smoothing of the hard term in the uniform convention, and γ the equivalent smoothing of the soft
    targets. The result is empty if there are no soft targets or no γ: with mixed labels, with soft terms other than
    KL, and with a hard term that has more than one smoothing.
    """
    loss = config.loss
    if cache is None or loss.alpha == 0 or loss.soft != "kl" or cache.config.augment.mixes:
        return {}
    if loss.alpha < 1 and not has_one_smoothing(loss):
        return {}
    hard = 0.0 if loss.alpha == 1 else in_uniform(loss.smoothing, loss.smoothing_convention, len(dataset.classes))
    soft = _smoothing_of_cache(cache, dataset, _transfer_subset(config, dataset), loss)
    return {"equivalent_smoothing": (1 - loss.alpha) * hard + loss.alpha * soft}


def _smoothing_of_cache(
    cache: LogitCache, dataset: Dataset, subset: torch.Tensor | None, loss: LossConfig
) -> float:
    """Return the equivalent smoothing γ of the soft targets, over the first view of the transfer set."""
    labels = dataset.train.labels
    index = torch.arange(len(labels)) if subset is None else subset
    if len(index) > _MEASURED:  # spread the samples over the set, which may be sorted by class
        index = index[torch.linspace(0, len(index) - 1, _MEASURED, dtype=torch.float64).long()]
    rows = max(1, _TARGET_BYTES // (8 * len(cache.classes)))
    total = 0.0
    for part in index.split(rows):
        # The measure runs on the CPU, since it takes float64, which mps does not have.
        logits = cache.logits(part.to(cache.device)).cpu()
        total += len(part) * equivalent_smoothing(logits, dataset.train.labels[part], loss.temperature)
    return total / len(index)


def _transfer_subset(config: StudentConfig, dataset: Dataset) -> torch.Tensor | None:
    if not config.exclude_classes:
        return None
    if dataset.label_shape:
        expected = f"none for {dataset.name}, whose samples have a label per position"
        raise UserError("exclude_classes", config.exclude_classes, expected, "Drop --exclude-classes.")
    known = range(len(dataset.classes))
    if unknown := [cls for cls in config.exclude_classes if cls not in known]:
        way_out = f"Classes are numbered in this order: {', '.join(dataset.classes)}."
        raise UserError("exclude_classes", unknown, f"numbers from 0 to {len(known) - 1}", way_out)
    kept = (~torch.isin(dataset.train.labels, torch.tensor(config.exclude_classes))).nonzero().squeeze(1)
    if not len(kept):
        way_out = "Leave out fewer with --exclude-classes."
        raise UserError("exclude_classes", config.exclude_classes, "that a class is left to learn from", way_out)
    return kept
