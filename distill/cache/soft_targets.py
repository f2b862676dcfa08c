"""Prepare a cache's soft targets for the batches of a student, and measure how much smoothing they amount to."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distill.cache.logit_cache import LogitCache
from distill.config import LossConfig
from distill.data.loader import Join
from distill.losses import FromTeacher, has_one_smoothing, in_uniform, prepare
from distill.metrics.dark_knowledge import equivalent_smoothing

TARGET_BYTES = 4 << 20
"""Bytes of soft targets that are made at a time."""
MEASURED_SAMPLES = 50_000
"""Largest number of samples over which the equivalent smoothing of soft targets is averaged."""


def soft_targets(cache: LogitCache, loss: LossConfig) -> Join[FromTeacher]:
    """Make the function that a loader calls for the soft targets of its batches."""
    # With many classes the targets of a whole chunk of images would fill the memory.
    rows = max(1, TARGET_BYTES // (4 * len(cache.classes)))

    def join(index: Tensor, view: int, batch_size: int) -> Iterator[FromTeacher]:
        for part in index.split(max(1, rows // batch_size) * batch_size):
            yield from prepare(loss, cache.logits(part, view), batch_size)

    return join


def smoothing_of_targets(
    cache: LogitCache, labels: Tensor, loss: LossConfig, subset: Tensor | None = None
) -> float | None:
    """Return how much label smoothing a student's hard and soft targets amount to: (1 - alpha) ε + alpha γ, where ε
    is that of the labels and γ that of the teacher (Müller et al. 2019, section 4).

    ε is the smoothing of the hard term in the uniform convention, and γ the equivalent smoothing of the soft
    targets. The result is None where there are no soft targets or no γ: with mixed labels, with a soft term other
    than plain KL, and with a hard term that has more than one smoothing.

    Args:
        cache: cache of the soft targets.
        labels: labels of the transfer set.
        loss: loss of the student.
        subset: samples of the transfer set that the student sees; None means all.
    """
    if loss.alpha == 0 or not loss.soft_term.is_plain_kl or cache.config.augment.mixes:
        return None
    if loss.alpha < 1 and not has_one_smoothing(loss):
        return None
    hard = 0.0 if loss.alpha == 1 else in_uniform(loss.smoothing, loss.smoothing_convention, len(cache.classes))
    index = torch.arange(len(labels)) if subset is None else subset
    if len(index) > MEASURED_SAMPLES:  # spread the samples over the set, which may be sorted by class
        index = index[torch.linspace(0, len(index) - 1, MEASURED_SAMPLES, dtype=torch.float64).long()]
    total = 0.0
    for part in index.split(max(1, TARGET_BYTES // (8 * len(cache.classes)))):
        # The measure runs on the CPU, since it takes float64, which mps does not have.
        logits = cache.logits(part.to(cache.device)).cpu()
        total += len(part) * equivalent_smoothing(logits, labels[part], loss.temperature)
    return (1 - loss.alpha) * hard + loss.alpha * (total / len(index))
