"""Prepare a cache's soft targets for the batches of a student, and measure how much smoothing they amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from distill.cache.logit_cache import LogitCache
from distill.config import LossConfig
from distill.data.loader import Join
from distill.losses import FromTeacher, has_one_smoothing, in_uniform, prepare
from distill.metrics.dark_knowledge import equivalent_smoothing
from distill.metrics.temperature import solve_temperature

TARGET_BYTES = 4 << 20
"""Bytes of soft targets that are made at a time."""
MEASURED_SAMPLES = 50_000
"""Largest number of samples over which the equivalent smoothing of soft targets is averaged, all views together."""
MEASURED_VIEWS = 8
"""Largest number of views of which these samples are read: the files of a view are hashed when it is first read."""


def soft_targets(cache: LogitCache, loss: LossConfig) -> Join[FromTeacher]:
    """Make the function that a loader calls for the soft targets of its batches."""
    # With many classes the targets of a whole chunk of images would fill the memory.
    rows = max(1, TARGET_BYTES // (4 * len(cache.classes)))

    def join(index: Tensor, view: int, batch_size: int) -> Iterator[FromTeacher]:
        for part in index.split(max(1, rows // batch_size) * batch_size):
            yield from prepare(loss, cache.logits(part, view), batch_size)

    return join


def with_temperature(
    loss: LossConfig, cache: LogitCache, labels: Tensor, subset: Tensor | None = None, views: int | None = None
) -> LossConfig:
    """Return a loss with the temperature that its `equivalent_smoothing` asks for; any other loss as it is.

    The other arguments are those of `smoothing_of_targets`. The same cache gives the same temperature.

    Raises:
        UnfitTeacher: no temperature gives the soft targets this γ.
    """
    if loss.equivalent_smoothing is None:
        return loss
    temperature = solve_temperature(loss.equivalent_smoothing, _gamma(cache, labels, subset, views))
    return loss.replace(temperature=temperature, equivalent_smoothing=None)


def smoothing_of_targets(
    cache: LogitCache, labels: Tensor, loss: LossConfig, subset: Tensor | None = None, views: int | None = None
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
        views: number of views that the student reads; None means all.
    """
    if loss.alpha == 0 or not loss.soft_term.is_plain_kl or cache.config.augment.mixes:
        return None
    if loss.alpha < 1 and not has_one_smoothing(loss):
        return None
    hard = 0.0 if loss.alpha == 1 else in_uniform(loss.smoothing, loss.smoothing_convention, len(cache.classes))
    gamma = _gamma(cache, labels, subset, views)(loss.temperature)
    return (1 - loss.alpha) * hard + loss.alpha * gamma


def _gamma(cache: LogitCache, labels: Tensor, subset: Tensor | None, views: int | None) -> Callable[[float], float]:
    """Return the function from a temperature to the equivalent smoothing γ of a cache's soft targets."""
    index = torch.arange(len(labels)) if subset is None else subset
    read = _spread(torch.arange(views or cache.config.views), MEASURED_VIEWS)
    # Samples are spread over the set, which may be sorted by class.
    index = _spread(index, MEASURED_SAMPLES // len(read))
    rows = max(1, TARGET_BYTES // (8 * len(cache.classes)))

    def gamma(temperature: float) -> float:
        total = 0.0
        for view in read.tolist():
            for part in index.split(rows):
                # The measure runs on the CPU, since it takes float64, which mps does not have.
                logits = cache.logits(part.to(cache.device), view).cpu()
                total += len(part) * equivalent_smoothing(logits, labels[part], temperature)
        return total / (len(index) * len(read))

    return gamma


def _spread(values: Tensor, most: int) -> Tensor:
    """Take `most` of the values at equal distances, or all of them if they are fewer."""
    if len(values) <= most:
        return values
    return values[torch.linspace(0, len(values) - 1, most, dtype=torch.float64).long()]
