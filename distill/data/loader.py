"""Make batches of a split: order, views and normalisation, on the device, with no Python per sample.

Work is done for thousands of images at a time and batches are slices of the result, so a batch costs about as much
as a slice. Only a view program (`program`) works image by image, a batch at a time, in worker processes. Order and
views are pure functions (`crops`, `mixing`), so an epoch can start at any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.batch_share import BatchShare
from distill.data.sets.dataset import Split
from distill.data.views.canvas import Canvas
from distill.data.views.crops import ViewParameters, permutation, render, view_parameters
from distill.data.views.mixing import MixParameters, mix, mix_labels, mix_parameters
from distill.data.views.program import ProgramViews

RESIDENT_BYTES = 2 << 30
"""Largest set, in bytes, that is laid out as a whole in memory or on the device; others are laid out by the
chunk."""
NORMALISED_BYTES = 32 << 20
"""Largest set, in bytes as float32, that is normalised only once when there is no augmentation."""
CHUNK_BYTES = 6 << 20
"""Bytes of normalised images that are made at a time.

Much larger pieces of memory come as fresh pages, which cost more.
"""

CACHE_BYTES = 1 << 20
"""Bytes of normalised images that are made in one go, so that the passes over them stay in a core's cache."""


@dataclass(slots=True)
class Batch:
    """The samples of one step, all on the loader's device. A batch is a slice of a chunk of about 6 MiB."""

    images: Float32[Tensor, "b c h w"]
    """Views, normalised by mean and standard deviation."""
    labels: Int64[Tensor, "b"] | Int64[Tensor, "b t"] | Float32[Tensor, "b k"]
    """Classes, or a class per position; for mixed views the share of each class, with a sum of 1."""
    index: Int64[Tensor, "b"]
    """Index of each sample within the split."""
    view: int
    """View number, the same for all samples."""
    teacher: Any = None
    """Rows that were joined to the batch: a teacher's logits or soft targets."""


Join = Callable[[Tensor, int, int], Iterable[Any]]
"""A function from (index of thousands of samples, view, batch size) to the rows that belong to each batch."""


def shift_and_factor(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[Float32[Tensor, "c 1 1"], Float32[Tensor, "c 1 1"]]:
    """Return the shift and the factor that turn pixels x of 0..255 into (x / 255 - mean) / std.

    The shift is subtracted first, then the factor is multiplied.
    """
    shift = (torch.tensor(mean, dtype=torch.float64) * 255).float().view(-1, 1, 1)
    factor = (1 / (torch.tensor(std, dtype=torch.float64) * 255)).float().view(-1, 1, 1)
    return shift, factor


class Normaliser:
    """A map from pixels x of 0..255 (bytes or floats) to (x / 255 - mean) / std, per channel.

    One subtraction and one product give two roundings: the result is bit-identical on every device and for every
    batch.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str | torch.device = "cpu"):
        self._shift, self._factor = (each.to(device) for each in shift_and_factor(mean, std))

    def __call__(
        self, images: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"], channels_last: bool = False
    ) -> Float32[Tensor, "b c h w"]:
        """Return normalised images in fresh memory."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        out = torch.empty(images.shape, dtype=torch.float32, device=images.device, memory_format=layout)
        return out.copy_(images).sub_(self._shift).mul_(self._factor)

    def write(self, images: UInt8[np.ndarray, "b c h w"], out: Float32[np.ndarray, "b c h w"]) -> None:
        """Normalise images on a CPU into given memory."""
        # numpy, since torch shares each of these short operations among its threads, and waiting for them costs
        # milliseconds when another process has the core.
        np.copyto(out, images)
        out -= self._shift.numpy()
        out *= self._factor.numpy()


class Loader:
    """A loader of epochs of normalised views of a split.

    Args:
        split: images and labels.
        mean: mean of each channel, in 0..1 units.
        std: standard deviation of each channel, in 0..1 units.
        augment: config of the views.
        seed: seed of the order, and of the views unless `view_seed` is given.
        batch_size: number of samples per step.
        device: device of the batches.
        views: number of views; epoch e shows view e mod views. None shows view e.
        view_seed: seed of the views.
        subset: indices within the split to which epochs are confined; None takes all.
        shuffle: whether every epoch has a new order; otherwise the order is that of the split or subset.
        drop_last: whether to drop the last incomplete batch, unless it is the only batch.
        channels_last: whether images have the memory format channels_last.
        num_classes: number of classes of the labels; needed where views are mixed.
        workers: processes that run a view program, ahead of the step; 0 runs it in this process. Pixels do not
            depend on their number.
        share: of this rank in each batch; `epoch` yields each piece of this rank as a batch.

    Raises:
        ValueError: the subset is not within the split, or views are mixed and there is a subset, or no
            `num_classes`.
        UserError: the view program cannot be used (`ProgramViews`), or the samples of a step cannot be cut into
            equal shares.
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
        num_classes: int | None = None,
        workers: int = 0,
        share: BatchShare = BatchShare(),  # noqa: B008 - frozen
    ):
        if augment.mixes and num_classes is None:
            raise ValueError("num_classes = None: expected their number, since mixed labels are shares of classes")
        if augment.mixes and subset is not None:
            raise ValueError("subset with mixup or cutmix: a mixed view would show samples outside of the subset")
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
        if share.pieces * share.world > 1:
            batch_size = min(batch_size, self._samples)  # fewer samples are cut as one batch
        self._step, self._share = batch_size, share
        self.batch_size = batch_size = share.rows(batch_size)
        self._shuffle, self._drop_last, self._channels_last = shuffle, drop_last, channels_last
        self._num_classes = num_classes or 0
        self._program, self._workers = None, workers
        if augment.program is not None:
            self._program = ProgramViews(split.images, augment, self._view_seed)
        sample_bytes = 4 * max(split.images[0:1].numel(), 1, self._num_classes if augment.mixes else 0)
        self._chunk = batch_size * max(1, CHUNK_BYTES // (sample_bytes * batch_size))
        if self._program is not None:
            self._chunk = batch_size  # a worker makes one batch at a time
        self._canvas: Canvas | None = None
        self._resident: Tensor | None = None
        self._normalised: Tensor | None = None
        self._settled = False

    def settle(self) -> None:
        """Keep the set where it is read fastest, if it fits."""
        # This is worth its time for epochs, but not for a few views of a proof.
        if self._settled or self._program is not None:
            return
        self._settled = True
        images, augment = self._images, self._augment
        is_small = 4 * images.numel() <= NORMALISED_BYTES
        if augment == AugmentConfig() and is_small and not self._channels_last:
            self._normalised = self._normalise(images.to(self.device))
        elif self.device.type != "cpu":
            self._resident = images.to(self.device) if images.numel() <= RESIDENT_BYTES else None
        elif Canvas.bytes_needed(images, augment) <= RESIDENT_BYTES:
            self._canvas = Canvas(images, augment)

    @property
    def labels_per_sample(self) -> int:
        """The number of labels of a sample: 1, or the number of positions where each has a label."""
        return self._labels.shape[1:].numel()

    def __len__(self) -> int:
        """Return the number of steps per epoch."""
        full, rest = divmod(self._samples, self._step)
        return full if full and self._drop_last else full + (rest > 0)

    def epoch(self, epoch: int, start: int = 0, join: Join | None = None) -> Iterator[Batch]:
        """Yield the batches of steps `start`, `start` + 1, … of an epoch; each stays valid after the next is made.

        A step gives one batch, or one batch for each piece of this rank where the samples are divided into shares.
        """
        view = epoch if self._views is None else epoch % self._views
        order = self._order(epoch)[: len(self) * self._step][start * self._step :]
        yield from self.batches(self._share.of(order, self._step), view, join)

    def batches(self, order: Int64[Tensor, "m"], view: int, join: Join | None = None) -> Iterator[Batch]:
        """Yield batches of the given view of these samples, in this order; the last batch may be smaller."""
        if len(order) == 0:
            return
        self.settle()
        chunks = order.to(self.device).split(self._chunk)
        for chunk, (images, labels) in zip(chunks, self._chunks(chunks, view), strict=True):
            index = chunk.split(self.batch_size)
            teacher = join(chunk, view, self.batch_size) if join else [None] * len(index)
            parts = images.split(self.batch_size), labels.split(self.batch_size), index
            for batch in zip(*parts, repeat(view, len(index)), teacher, strict=True):
                yield Batch(*batch)

    def _chunks(self, chunks: Sequence[Int64[Tensor, "c"]], view: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images and the labels of each chunk."""
        if self._program is None or not self._workers:
            for chunk in chunks:
                yield self.render_views(chunk, view), self._view_labels(chunk, view)
            return
        # Partners are computed on the CPU: to fetch them from a device would wait for its unfinished steps.
        sources = (self._with_partners(chunk, view) for chunk in torch.cat(list(chunks)).cpu().split(self._chunk))
        for chunk, unmixed in zip(chunks, self._program.stream(sources, view, self._workers), strict=True):
            pixels, mixture = unmixed.to(self.device), self._mixture(chunk, view)
            if mixture is not None:
                pixels = mix(pixels[: len(chunk)], pixels[len(chunk) :], mixture)
            yield self._normalise(pixels, self._channels_last), self._view_labels(chunk, view)

    def _order(self, epoch: int) -> Int64[Tensor, "m"]:
        if not self._shuffle:
            return torch.arange(self._samples, device=self.device) if self._subset is None else self._subset
        order = permutation(self._seed, epoch, self._samples, self.device)
        return order if self._subset is None else self._subset[order]

    def pixels(self, index: Int64[Tensor, "b"], view: int) -> UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]:
        """Return the given view of each sample before normalisation, in units 0..255, mixed if views are mixed."""
        index = index.to(self.device)
        mixture = self._mixture(index, view)
        if mixture is None:
            return self._unmixed(index, view)
        return mix(self._unmixed(index, view), self._unmixed(mixture.partner, view), mixture)

    def render_views(self, index: Int64[Tensor, "b"], view: int) -> Float32[Tensor, "b c h w"]:
        """Return the given view of each sample of the split, normalised."""
        index = index.to(self.device)
        if self._normalised is not None:
            if self.device.type != "cpu":
                return self._normalised.index_select(0, index)
            return torch.from_numpy(self._normalised.numpy().take(index.numpy(), axis=0))
        if self.device.type != "cpu" or self._program is not None or self._augment.mixes:
            return self._normalise(self.pixels(index, view), self._channels_last)
        return self._gather(*self._laid_out(index), self._parameters(index, view))

    def _mixture(self, index: Int64[Tensor, "b"], view: int) -> MixParameters | None:
        if not self._augment.mixes:
            return None
        height, width = self._images.shape[-2:]
        return mix_parameters(self._view_seed, index, view, self._augment, len(self._images), height, width)

    def _with_partners(self, index: Int64[Tensor, "b"], view: int) -> Int64[Tensor, "rendered"]:
        mixture = self._mixture(index, view)
        return index if mixture is None else torch.cat([index, mixture.partner])

    def _view_labels(self, index: Int64[Tensor, "b"], view: int) -> Int64[Tensor, "b"] | Float32[Tensor, "b k"]:
        labels, mixture = self._labels.index_select(0, index), self._mixture(index, view)
        if mixture is None:
            return labels
        others = self._labels.index_select(0, mixture.partner)
        return mix_labels(labels, others, mixture.weight, self._num_classes)

    def _parameters(self, index: Int64[Tensor, "b"], view: int) -> ViewParameters:
        return view_parameters(self._view_seed, index, view, self._augment)

    def _unmixed(
        self, index: Int64[Tensor, "b"], view: int
    ) -> UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]:
        """Return views before mixing, on the device."""
        if self._program is not None:
            return self._program.pixels(index, view).to(self.device)
        parameters = self._parameters(index, view)
        if self.device.type == "cpu":
            canvas, rows = self._laid_out(index)
            return torch.from_numpy(np.ascontiguousarray(canvas.crops(canvas.starts(rows, parameters))))
        if self._resident is not None:
            images = self._resident.index_select(0, index)
        else:
            images = self._rows(index).to(self.device)
        return render(images, parameters, self._augment.pad)

    def _rows(self, index: Int64[Tensor, "b"]) -> UInt8[Tensor, "b c h w"]:
        return torch.from_numpy(self._images.numpy().take(index.cpu().numpy(), axis=0))

    def _laid_out(self, index: Int64[Tensor, "b"]) -> tuple[Canvas, Int64[Tensor, "b"]]:
        """Return a canvas and the rows of these samples in it."""
        if self._canvas is not None:
            return self._canvas, index
        images = self._rows(index)
        return Canvas(images, self._augment), torch.arange(len(images))

    def _gather(
        self, canvas: Canvas, rows: Int64[Tensor, "b"], parameters: ViewParameters
    ) -> Float32[Tensor, "b c h w"]:
        """Make normalised views with numpy, in pieces that fit a core's cache."""
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        out = torch.empty((len(rows), *self._images.shape[1:]), memory_format=layout)
        starts, filled = canvas.starts(rows, parameters), out.numpy()
        step = max(1, CACHE_BYTES // (4 * self._images[0].numel()))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            self._normalise.write(canvas.crops(starts[part]), filled[part])
        return out
