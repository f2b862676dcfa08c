"""Hold the images of a split as files, which are decoded when they are asked for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.data.sets.decoding import Reading, decode, decoded, of_shape
from distill.data.sets.fitting import Fit
from distill.data.sets.streams.sources import Source, read_image
from distill.system.runtime import cores

if TYPE_CHECKING:
    from PIL import Image

_AHEAD_BYTES = 64 << 20
"""Bytes of pixels that are decoded ahead of who goes through all images."""


class StreamedImages:
    """Stand for the tensor of a split's images [n, 3, h, w], each decoded from its file when it is asked for.

    Args:
        source: where the files are read.
        rows: number of each image in the source.
        reading: how a file becomes pixels.
        side: height and width of a decoded image.
    """

    def __init__(self, source: Source, rows: Int64[np.ndarray, "n"], reading: Reading, side: tuple[int, int]):
        self._source, self._rows, self._reading = source, rows, reading
        self.shape = torch.Size((len(rows), 3, *side))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def __getitem__(self, index: slice | Int64[Tensor, "m"]) -> StreamedImages:
        """Return some of the images, which are not decoded yet."""
        at = index.cpu().numpy() if isinstance(index, Tensor) else index
        return StreamedImages(self._source, self._rows[at], self._reading, (self.shape[2], self.shape[3]))

    def numel(self) -> int:
        """Return the number of bytes of all images when they are decoded."""
        return math.prod(self.shape)

    def fitted(self, fit: Fit) -> StreamedImages:
        """Return the same files, each resized and cropped in another way."""
        assert fit.size is not None, "a network has one size"
        reading = self._reading._replace(fit=fit)
        return StreamedImages(self._source, self._rows, reading, (fit.size, fit.size))

    def original(self, index: int) -> Image.Image:
        """Decode one image in its own size.

        Raises:
            UserError: the image cannot be read or decoded.
        """
        row = int(self._rows[index])
        return decoded(self._source.name(row), read_image(self._source, row), self._reading)

    def pixels(self, index: Int64[np.ndarray, "m"]) -> UInt8[Tensor, "m c h w"]:
        """Decode some images, each fitted to one size.

        Raises:
            UserError: an image cannot be read or decoded, or has another shape.
        """
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        for place, row in zip(out, self._rows[index].tolist(), strict=True):
            name = self._source.name(row)
            place[:] = of_shape(decode(name, read_image(self._source, row), self._reading), place.shape, name)
        return torch.from_numpy(out)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "m c h w"]]:
        """Yield the pixels of all images in parts of `size`; threads decode the next parts ahead."""
        parts = iter(np.array_split(np.arange(len(self)), range(size, len(self), size)) if len(self) else ())
        # A part is decoded by several threads, so that memory holds few parts.
        threads = cores()
        ahead = max(1, _AHEAD_BYTES // max(1, size * math.prod(self.shape[1:])))
        waiting: deque[list[Future[Tensor]]] = deque()
        with ThreadPoolExecutor(threads) as pool:

            def ask() -> None:
                part = next(parts, None)
                if part is not None:
                    waiting.append([pool.submit(self.pixels, piece) for piece in np.array_split(part, threads)])

            for _ in range(1 + ahead):
                ask()
            while waiting:
                done = torch.cat([piece.result() for piece in waiting.popleft()])
                ask()
                yield done


def pixels_of(
    images: UInt8[Tensor, "n c h w"] | StreamedImages, index: Int64[Tensor, "m"]
) -> UInt8[Tensor, "m c h w"]:
    """Return the pixels of some images on the CPU, which are copied, or decoded from their files."""
    at = index.cpu().numpy()
    if isinstance(images, StreamedImages):
        return images.pixels(at)
    return torch.from_numpy(images.numpy().take(at, axis=0))
