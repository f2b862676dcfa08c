"""Batches of a split: order, views and normalisation, on the device, with no Python per sample.

Work is done for thousands of images at a time and batches are slices of the result, so the cost per batch is
that of a slice. Order and views are pure functions (`views`), so an epoch can start at any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.canvas import Canvas
from distill.data.datasets import Split
from distill.data.views import ViewParameters, permutation, render, view_parameters

RESIDENT_BYTES = 2 << 30
"""Larger sets are not laid out in memory (or on the device) as a whole, but by the chunk."""
NORMALISED_BYTES = 32 << 20
"""Sets up to this size, as float32, are normalised once when there is no augmentation."""
CHUNK_BYTES = 6 << 20
"""Normalised images made at a time. Much larger pieces of memory come as fresh pages, which cost more."""

CACHE_BYTES = 1 << 20
"""Normalised images made in one go, so that the passes over them stay in a core's cache."""


@dataclass(slots=True)
class Batch:
    """Samples of one step, all on the loader's device. A batch is a slice of a chunk of about 6 MiB."""

    images: Float32[Tensor, "b c h w"]
    """Views, normalised by mean and standard deviation."""
    labels: Int64[Tensor, "b"]
    index: Int64[Tensor, "b"]
    """Index of each sample within the split."""
    view: int
    """View number, the same for all samples."""
    teacher: Any = None
    """What was joined to the batch: a teacher's logits or soft targets."""


Join = Callable[[Tensor, int, int], Sequence[Any]]
"""(index of thousands of samples, view, batch size) → what belongs to each batch of them."""


class Normaliser:
    """Bytes 0..255 → (x / 255 - mean) / std, per channel.

    Two roundings, one subtraction and one product: bit-identical on every device and for every batch.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str | torch.device = "cpu"):
        self._shift = (torch.tensor(mean, dtype=torch.float64) * 255).float().view(-1, 1, 1).to(device)
        self._scale = (1 / (torch.tensor(std, dtype=torch.float64) * 255)).float().view(-1, 1, 1).to(device)

    def __call__(self, images: UInt8[Tensor, "b c h w"], channels_last: bool = False) -> Float32[Tensor, "b c h w"]:
        """Normalised images in fresh memory."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        out = torch.empty(images.shape, dtype=torch.float32, device=images.device, memory_format=layout)
        return out.copy_(images).sub_(self._shift).mul_(self._scale)

    def write(self, images: UInt8[np.ndarray, "b c h w"], out: Float32[np.ndarray, "b c h w"]) -> None:
        """The same on a CPU, into given memory.

        numpy, since torch shares each of these short operations among its threads, and waiting for them costs
        milliseconds when another process has the core.
        """
        np.copyto(out, images)
        out -= self._shift.numpy()
        out *= self._scale.numpy()


class Loader:
    """Epochs of normalised views of a split.

    Args:
        split: images and labels.
        mean: per channel, in 0..1 units.
        std: likewise.
        augment: the view program.
        seed: of the order, and of the views unless `view_seed` is given.
        batch_size: samples per batch.
        device: where batches live.
        views: epoch e shows view e mod views; None shows view e.
        view_seed: seed of the views.
        subset: indices within the split to which epochs are confined; None takes all.
        shuffle: a new order every epoch; otherwise the order of the split or subset.
        drop_last: drop the last incomplete batch, unless it is the only one.
        channels_last: memory format of the images.
    """

    def __init__(
        self,
        split: Split,
        mean: Sequence[float],
        std: Sequence[float],
        augment: AugmentConfig,
        seed: int,
        batch_size: int,
        device: str | torch.device = "cpu",
        views: int | None = None,
        view_seed: int | None = None,
        subset: Int64[Tensor, "m"] | None = None,
        shuffle: bool = True,
        drop_last: bool = True,
        channels_last: bool = False,
    ):
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._images, self._augment = split.images, augment
        self._labels = split.labels.to(self.device)
        self._normalise = Normaliser(mean, std, self.device)
        self._seed, self._views = seed, views
        self._view_seed = seed if view_seed is None else view_seed
        if subset is not None and not bool(((subset >= 0) & (subset < len(split))).all()):
            raise ValueError(f"subset has indices outside 0..{len(split) - 1}")
        self._subset = None if subset is None else subset.to(self.device)
        self._samples = len(split) if subset is None else len(subset)
        self._shuffle, self._drop_last, self._channels_last = shuffle, drop_last, channels_last
        batch_bytes = 4 * batch_size * split.images[0:1].numel() if len(split) else 1
        self._chunk = batch_size * max(1, CHUNK_BYTES // batch_bytes)
        self._canvas: Canvas | None = None
        self._resident: Tensor | None = None
        self._normalised: Tensor | None = None
        self._settle()

    def _settle(self) -> None:
        """Keep the set where it is read fastest, if it fits."""
        images, augment = self._images, self._augment
        is_small = 4 * images.numel() <= NORMALISED_BYTES
        if augment == AugmentConfig() and is_small and not self._channels_last:
            self._normalised = self._normalise(images.to(self.device))
        elif self.device.type != "cpu":
            self._resident = images.to(self.device) if images.numel() <= RESIDENT_BYTES else None
        elif Canvas.bytes_needed(images, augment) <= RESIDENT_BYTES:
            self._canvas = Canvas(images, augment)

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(self._samples, self.batch_size)
        return full if full and self._drop_last else full + (rest > 0)

    def epoch(self, epoch: int, start: int = 0, join: Join | None = None) -> Iterator[Batch]:
        """Batches `start`, `start` + 1, … of an epoch; batches stay valid after the next one is made."""
        view = epoch if self._views is None else epoch % self._views
        order = self._order(epoch)[: len(self) * self.batch_size]
        for chunk in order[start * self.batch_size :].split(self._chunk):
            if len(chunk) == 0:
                return
            images = self.render_views(chunk, view).split(self.batch_size)
            labels = self._labels.index_select(0, chunk).split(self.batch_size)
            index = chunk.split(self.batch_size)
            teacher = join(chunk, view, self.batch_size) if join else [None] * len(index)
            for batch in zip(images, labels, index, repeat(view, len(index)), teacher, strict=True):
                yield Batch(*batch)

    def _order(self, epoch: int) -> Int64[Tensor, "m"]:
        if not self._shuffle:
            return torch.arange(self._samples, device=self.device) if self._subset is None else self._subset
        order = permutation(self._seed, epoch, self._samples, self.device)
        return order if self._subset is None else self._subset[order]

    def render_views(self, index: Int64[Tensor, "b"], view: int) -> Float32[Tensor, "b c h w"]:
        """The given view of each sample of the split, normalised."""
        index = index.to(self.device)
        if self._normalised is not None:
            if self.device.type != "cpu":
                return self._normalised.index_select(0, index)
            return torch.from_numpy(self._normalised.numpy().take(index.numpy(), axis=0))
        parameters = view_parameters(self._view_seed, index, view, self._augment)
        if self._canvas is not None:
            return self._gather(self._canvas, index, parameters)
        if self._resident is not None:
            images = self._resident.index_select(0, index)
        else:
            images = torch.from_numpy(self._images.numpy().take(index.cpu().numpy(), axis=0))
            if self.device.type == "cpu":
                return self._gather(Canvas(images, self._augment), torch.arange(len(images)), parameters)
        views = render(images.to(self.device), parameters, self._augment.pad)
        return self._normalise(views, self._channels_last)

    def _gather(
        self, canvas: Canvas, rows: Int64[Tensor, "b"], parameters: ViewParameters
    ) -> Float32[Tensor, "b c h w"]:
        """Normalised views by numpy, a cache-full at a time."""
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        out = torch.empty((len(rows), *self._images.shape[1:]), memory_format=layout)
        starts, filled = canvas.starts(rows, parameters), out.numpy()
        step = max(1, CACHE_BYTES // (4 * self._images[0].numel()))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            self._normalise.write(canvas.crops(starts[part]), filled[part])
        return out
