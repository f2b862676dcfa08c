"""Make the batches of an epoch: in a new order each time, on the device, with no Python per sample.

Views are rendered for thousands of samples at a time and batches are slices of the result, so a batch costs about
as much as a slice. Only what decodes files or runs a view program works image by image, a batch at a time, in other
processes. Order and views are pure functions, so an epoch can start at any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from distill.data.balance import BalancedDraw
from distill.data.batch_share import BatchShare
from distill.data.views.crops import permutation
from distill.data.views.views import Views

CHUNK_BYTES = 6 << 20
"""Bytes of normalised images that are made at a time.

Much larger pieces of memory come as fresh pages, which cost more.
"""

FromTeacher = TypeVar("FromTeacher")


@dataclass(slots=True)
class Batch(Generic[FromTeacher]):
    """Hold the samples of one step, all on the loader's device. A batch is a slice of a chunk of about 6 MiB."""

    images: Float32[Tensor, "b c h w"]
    """Views, normalised by mean and standard deviation."""
    labels: Int64[Tensor, "b"] | Int64[Tensor, "b t"] | Float32[Tensor, "b k"]
    """Classes, or a class per position; for mixed views the share of each class, with a sum of 1."""
    index: Int64[Tensor, "b"]
    """Index of each sample within the split."""
    view: int
    """View number, the same for all samples."""
    teacher: FromTeacher
    """What was joined to the batch: a teacher's logits or soft targets; None without a teacher."""


Join = Callable[[Tensor, int, int], Iterable[FromTeacher]]
"""A function from (index of thousands of samples, view, batch size) to what belongs to each batch."""


class Loader:
    """Load batches of views, epoch by epoch.

    Args:
        views: views of a split.
        batch_size: number of samples per step.
        seed: seed of the order; None keeps the order of the split or subset.
        cycle: number of views that epochs go through: epoch e shows view e mod cycle. None shows view e.
        subset: indices within the split to which epochs are confined; None takes all.
        drop_last: whether to drop the last incomplete batch, unless it is the only batch.
        workers: processes that decode files or run a view program, ahead of the step; 0 does so in this process.
            Pixels do not depend on their number.
        share: this rank's share of each batch; `epoch` yields each of its pieces as a batch.
        balanced: whether an epoch draws each class equally often (`BalancedDraw`); needs a seed and one label per
            sample.

    Raises:
        ValueError: the subset is not within the split, or there is one although views are mixed,
            or classes are balanced where they cannot be.
        UserError: the samples of a step cannot be cut into equal shares.
    """

    def __init__(
        self,
        views: Views,
        batch_size: int,
        seed: int | None,
        cycle: int | None = None,
        subset: Int64[Tensor, "m"] | None = None,
        drop_last: bool = True,
        workers: int = 0,
        share: BatchShare = BatchShare(),  # noqa: B008 - frozen
        balanced: bool = False,
    ):
        if subset is not None and views.augment.mixes:
            raise ValueError("subset with mixup or cutmix: a mixed view would show samples outside of the subset")
        if subset is not None and not bool(((subset >= 0) & (subset < len(views))).all()):
            raise ValueError(f"subset has indices outside 0..{len(views) - 1}")
        if balanced and (seed is None or views.augment.mixes or views.labels.ndim > 1):
            raise ValueError("balanced: expected a seed, views that are not mixed, and one label per sample")
        self.views = views
        self._seed, self._cycle, self._drop_last, self._workers = seed, cycle, drop_last, workers
        self._subset = None if subset is None else subset.to(views.device)
        taught = ... if self._subset is None else self._subset
        self._draw = BalancedDraw.of(views.labels[taught]) if balanced else None
        self._samples = len(views) if subset is None else len(subset)
        if share.pieces * share.world > 1:
            batch_size = min(batch_size, self._samples)  # fewer samples are cut as one batch
        self._step, self._share = batch_size, share
        self.batch_size = batch_size = share.rows(batch_size)
        # A worker makes one batch at a time.
        batches = 1 if views.one_by_one else max(1, CHUNK_BYTES // (views.sample_bytes * batch_size))
        self._chunk = batch_size * batches

    @property
    def labels_per_step(self) -> int:
        """Return the number of labels in a step of all ranks: one per sample, or one per position of a sample."""
        return self._step * self.views.labels.shape[1:].numel()

    @property
    def smallest(self) -> int:
        """Return the smallest number of samples in a batch of an epoch without its incomplete batch."""
        return min(self.batch_size, self._samples)

    def __len__(self) -> int:
        """Return the number of steps per epoch."""
        full, rest = divmod(self._samples, self._step)
        return full if full and self._drop_last else full + (rest > 0)

    # The caller knows what it joins, and says so in the type of its batches.
    def epoch(self, epoch: int, start: int = 0, join: Join[Any] | None = None) -> Iterator[Batch[Any]]:
        """Yield the batches of steps `start`, `start` + 1, … of an epoch; each stays valid after the next is made.

        A step gives one batch, or one batch for each piece of this rank where the samples are divided into shares.
        """
        view = epoch if self._cycle is None else epoch % self._cycle
        order = self._order(epoch)[: len(self) * self._step][start * self._step :]
        yield from self.batches(self._share.of(order, self._step), view, join)

    def batches(self, order: Int64[Tensor, "m"], view: int, join: Join[Any] | None = None) -> Iterator[Batch[Any]]:
        """Yield batches of the given view of these samples, in this order; the last batch may be smaller."""
        if len(order) == 0:
            return
        self.views.settle()
        chunks = order.to(self.views.device).split(self._chunk)
        rendered = self.views.stream(chunks, view, self._workers)
        for chunk, (images, labels) in zip(chunks, rendered, strict=True):
            index = chunk.split(self.batch_size)
            teacher = join(chunk, view, self.batch_size) if join else repeat(None, len(index))
            parts = images.split(self.batch_size), labels.split(self.batch_size), index
            for batch in zip(*parts, repeat(view, len(index)), teacher, strict=True):
                yield Batch(*batch)

    def _order(self, epoch: int) -> Int64[Tensor, "m"]:
        if self._seed is None:
            return torch.arange(self._samples, device=self.views.device) if self._subset is None else self._subset
        if self._draw is None:
            order = permutation(self._seed, epoch, self._samples, self.views.device)
        else:
            order = self._draw.order(self._seed, epoch)
        return order if self._subset is None else self._subset[order]
