"""Make the images of batches ahead of the step that needs them, in worker processes that wait between epochs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

import torch
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from distill.data.sets.streams.images import StreamedImages
from distill.data.views.workers import Start, Workers

Pixels = UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]


class Renderer(Protocol):
    """Render views of samples; each worker process has a copy."""

    shape: tuple[int, ...]
    """Channels, height and width of a view."""
    dtype: torch.dtype | None
    """Dtype of all views; None if no view was rendered yet."""

    def pixels(self, index: Int64[ndarray, "b"], view: int) -> Pixels:
        """Return the given view of each sample."""
        ...


class Ahead:
    """Render batches in this process, or in worker processes ahead of the step.

    Args:
        renderer: what renders the views.
        start: way to start workers; None forks on Linux (workers are ready at once) and spawns elsewhere.
    """

    def __init__(self, renderer: Renderer, start: Start | None = None):
        self._renderer = renderer
        self._start: Start = start or ("fork" if sys.platform == "linux" else "spawn")
        self._idle: Workers | None = None

    def pixels(self, index: Int64[Tensor, "b"], view: int) -> Pixels:
        """Return the given view of each sample, in units 0..255, rendered in this process.

        The pixels are float32 where a program returns floats.
        """
        return self._renderer.pixels(index.cpu().numpy(), view)

    def stream(self, batches: Iterable[Int64[Tensor, "b"]], view: int, workers: int = 0) -> Iterator[Pixels]:
        """Yield the given view of each batch in turn, rendered ahead by `workers` processes.

        No batch may be larger than the first. The processes wait for the next call when all batches are done. They
        end when the iterator is dropped early, when a view fails, and with this object.
        """
        batches = iter(batches)
        if not workers or (first := next(batches, None)) is None:
            yield from (self.pixels(index, view) for index in batches)
            return
        # The idle workers are taken while this iterator works: a second iterator beside it gets its own processes.
        crew, self._idle = self._idle, None
        if crew is None or crew.count != workers or crew.rows < len(first):
            renderer = self._renderer
            dtype = renderer.dtype or torch.uint8
            crew = Workers(renderer.pixels, workers, (len(first), *renderer.shape), dtype, self._start)
        try:
            yield from crew.run((index.cpu().numpy(), view) for index in chain([first], batches))
        except BaseException:
            crew.close()
            raise
        self._idle = crew

    def close(self) -> None:
        """End the worker processes; the next `stream` starts new ones."""
        crew, self._idle = self._idle, None
        if crew is not None:
            crew.close()


class Decoder:
    """Decode streamed images, which are the same in every view."""

    def __init__(self, images: StreamedImages):
        self._images = images
        self.shape: tuple[int, ...] = tuple(images.shape[1:])
        self.dtype: torch.dtype | None = torch.uint8

    def pixels(self, index: Int64[ndarray, "b"], view: int) -> UInt8[Tensor, "b c h w"]:
        """Return the images of these samples."""
        del view
        return self._images.pixels(index)
