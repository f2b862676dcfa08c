"""Render views of a split: pixels, normalised images and labels, thousands of samples at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Dataset, Split
from distill.data.sets.streams.images import StreamedImages, pixels_of
from distill.data.views.ahead import Ahead, Decoder
from distill.data.views.canvas import Canvas
from distill.data.views.crops import ViewParameters, render, view_parameters
from distill.data.views.mixing import MixParameters, mix, mix_labels, mix_parameters
from distill.data.views.program import ProgramViews

RESIDENT_BYTES = 2 << 30
"""Largest set, in bytes, that is laid out as a whole in memory or on the device; others are laid out by the
chunk."""
NORMALISED_BYTES = 32 << 20
"""Largest set, in bytes as float32, that is normalised only once when there is no augmentation."""
CACHE_BYTES = 1 << 20
"""Bytes of normalised images that are made in one go, so that the passes over them stay in a core's cache."""


class Views:
    """Render views of a split: view v of sample i is a pure function of (seed, i, v).

    Pixels do not depend on the device, the order or the number of samples that are rendered together.

    Args:
        split: images and labels.
        normalise: normalisation of the images; its device is the device of all results.
        augment: config of the views.
        seed: seed of the views.
        num_classes: number of classes of the labels; needed where views are mixed.

    Raises:
        ValueError: views are mixed, and there is no `num_classes`.
        UserError: the view program cannot be used (`ProgramViews`).
    """

    def __init__(
        self, split: Split, normalise: Normaliser, augment: AugmentConfig, seed: int, num_classes: int | None = None
    ):
        if augment.mixes and num_classes is None:
            raise ValueError("num_classes = None: expected their number, since mixed labels are shares of classes")
        self.augment, self.device = augment, normalise.device
        self.labels = split.labels.to(self.device)
        self._images, self._normalise, self._seed = split.images, normalise, seed
        self._num_classes = num_classes or 0
        self._ahead: Ahead | None = None
        if augment.program is not None:
            self._ahead = ProgramViews(split.images, augment, seed)
        elif isinstance(split.images, StreamedImages):
            self._ahead = Ahead(Decoder(split.images))
        self._canvas: Canvas | None = None
        self._resident: Tensor | None = None
        self._normalised: Tensor | None = None
        self._is_settled = False

    @classmethod
    def of_training(
        cls,
        dataset: Dataset,
        augment: AugmentConfig,
        seed: int,
        device: str = "cpu",
        channels_last: bool = False,
    ) -> Views:
        """Return views of a data set's training split, normalised by its own mean and standard deviation."""
        normalise = Normaliser(dataset.mean, dataset.std, device, channels_last)
        return cls(dataset.train, normalise, augment, seed, dataset.num_classes)

    def __len__(self) -> int:
        """Return the number of samples of the split."""
        return len(self._images)

    @property
    def one_by_one(self) -> bool:
        """Tell whether views are made one image at a time, by a program or from a file."""
        return self._ahead is not None

    @property
    def sample_bytes(self) -> int:
        """Return how many bytes one sample takes: the larger of its normalised image and its mixed label."""
        made = math.prod(self._normalise.shape_for(self._images.shape[1:]))
        return 4 * max(made, 1, self._num_classes if self.augment.mixes else 0)

    def settle(self) -> None:
        """Keep the images where they are read fastest, if they fit."""
        # This is worth its time for epochs, but not for a few views of a proof.
        images, augment = self._images, self.augment
        if self._is_settled or self._ahead is not None or isinstance(images, StreamedImages):
            return
        self._is_settled = True
        is_small = len(images) * self.sample_bytes <= NORMALISED_BYTES
        if augment == AugmentConfig() and is_small and self._normalise.layout == torch.contiguous_format:
            self._normalised = self._normalise(images.to(self.device))
        elif self.device.type != "cpu":
            self._resident = images.to(self.device) if images.numel() <= RESIDENT_BYTES else None
        elif Canvas.bytes_needed(images, augment) <= RESIDENT_BYTES:
            self._canvas = Canvas(images, augment)

    def pixels(self, index: Int64[Tensor, "b"], view: int) -> UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]:
        """Return the given view of each sample before normalisation, in units 0..255, mixed if views are mixed."""
        index = index.to(self.device)
        mixture = self._mixture(index, view)
        if mixture is None:
            return self._unmixed(index, view)
        return mix(self._unmixed(index, view), self._unmixed(mixture.partner, view), mixture)

    def images_of(self, index: Int64[Tensor, "b"], view: int) -> Float32[Tensor, "b c h w"]:
        """Return the given view of each sample, normalised."""
        index = index.to(self.device)
        if self._normalised is not None:
            if self.device.type != "cpu":
                return self._normalised.index_select(0, index)
            return torch.from_numpy(self._normalised.numpy().take(index.numpy(), axis=0))
        plain = self._normalise.shape_for(self._images.shape) == self._images.shape
        if self.device.type != "cpu" or self._ahead is not None or self.augment.mixes or not plain:
            return self._normalise(self.pixels(index, view))
        return self._gather(*self._laid_out(index), self._parameters(index, view))

    def labels_of(self, index: Int64[Tensor, "b"], view: int) -> Int64[Tensor, "b"] | Float32[Tensor, "b k"]:
        """Return the labels of the given view; for mixed views the share of each class."""
        labels, mixture = self.labels.index_select(0, index), self._mixture(index, view)
        if mixture is None:
            return labels
        return mix_labels(labels, self.labels.index_select(0, mixture.partner), mixture.weight, self._num_classes)

    def stream(
        self, chunks: Sequence[Int64[Tensor, "c"]], view: int, workers: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the normalised images and the labels of each chunk; workers decode or run a program ahead."""
        if self._ahead is None or not workers:
            yield from ((self.images_of(chunk, view), self.labels_of(chunk, view)) for chunk in chunks)
            return
        # Partners are computed on the CPU: to fetch them from a device would wait for its unfinished steps.
        here = torch.cat(list(chunks)).cpu().split([len(chunk) for chunk in chunks])
        sources = [self._with_partners(chunk, view) for chunk in here]
        made = self._ahead.stream(sources, view, workers)
        for chunk, source, unmixed in zip(chunks, sources, made, strict=True):
            pixels, mixture = self._cropped(unmixed, source, view), self._mixture(chunk, view)
            if mixture is not None:
                pixels = mix(pixels[: len(chunk)], pixels[len(chunk) :], mixture)
            yield self._normalise(pixels), self.labels_of(chunk, view)

    def _mixture(self, index: Int64[Tensor, "b"], view: int) -> MixParameters | None:
        if not self.augment.mixes:
            return None
        height, width = self._images.shape[-2:]
        return mix_parameters(self._seed, index, view, self.augment, len(self._images), height, width)

    def _with_partners(self, index: Int64[Tensor, "b"], view: int) -> Int64[Tensor, "rendered"]:
        mixture = self._mixture(index, view)
        return index if mixture is None else torch.cat([index, mixture.partner])

    def _parameters(self, index: Int64[Tensor, "b"], view: int) -> ViewParameters:
        return view_parameters(self._seed, index, view, self.augment)

    def _unmixed(
        self, index: Int64[Tensor, "b"], view: int
    ) -> UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]:
        """Return views before mixing, on the device."""
        if self._ahead is not None:
            return self._cropped(self._ahead.pixels(index, view), index, view)
        parameters = self._parameters(index, view)
        if self.device.type == "cpu":
            canvas, rows = self._laid_out(index)
            return torch.from_numpy(np.ascontiguousarray(canvas.crops(canvas.starts(rows, parameters))))
        if self._resident is not None:
            images = self._resident.index_select(0, index)
        else:
            images = pixels_of(self._images, index).to(self.device)
        return render(images, parameters, self.augment.pad)

    def _cropped(
        self, made: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"], index: Int64[Tensor, "b"], view: int
    ) -> UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]:
        """Shift and flip images of these samples that were made one by one; a program has done this itself."""
        if self.augment.program is not None or not (self.augment.pad or self.augment.flip):
            return made.to(self.device)
        parameters = self._parameters(index.to(self.device), view)
        if self.device.type != "cpu":
            return render(made.to(self.device), parameters, self.augment.pad)
        canvas = Canvas(made, self.augment)
        starts = canvas.starts(torch.arange(len(made)), parameters)
        return torch.from_numpy(np.ascontiguousarray(canvas.crops(starts)))

    def _laid_out(self, index: Int64[Tensor, "b"]) -> tuple[Canvas, Int64[Tensor, "b"]]:
        """Return the images laid out for fast copies of shifted views, and the rows of these samples among them."""
        if self._canvas is not None:
            return self._canvas, index
        images = pixels_of(self._images, index)
        return Canvas(images, self.augment), torch.arange(len(images))

    def _gather(
        self, canvas: Canvas, rows: Int64[Tensor, "b"], parameters: ViewParameters
    ) -> Float32[Tensor, "b c h w"]:
        """Make normalised views with numpy, in pieces that fit a core's cache."""
        out = torch.empty((len(rows), *self._images.shape[1:]), memory_format=self._normalise.layout)
        starts, filled = canvas.starts(rows, parameters), out.numpy()
        step = max(1, CACHE_BYTES // (4 * self._images.shape[1:].numel()))
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            self._normalise.write(canvas.crops(starts[part]), filled[part])
        return out
