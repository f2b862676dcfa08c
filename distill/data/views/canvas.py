"""Render shifted and flipped views fast on a CPU, with one memory copy per image; `crops.render` is the plain form.

Images are laid out once with `pad` zero columns after each row and `pad` zero rows after each channel; the zeros
behind one row are also the zeros before the next. Then every crop, shifted by any amount, lies inside one
contiguous block of the flat buffer, and mirrored crops are crops of a mirrored copy.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill.config import AugmentConfig
from distill.data.views.crops import ViewParameters

_ROWS_PER_COPY = 4096


class Canvas:
    """Hold padded images in one buffer, from which any shifted or mirrored view is copied as one contiguous block.

    The canvas needs (h + pad) x (w + pad) bytes per channel, twice with flips, and nothing without augmentation.
    """

    def __init__(self, images: UInt8[Tensor, "n c h w"], augment: AugmentConfig):
        self._count, self._channels, self._height, self._width = images.shape
        self._pad = augment.pad
        self._stride = self._width + augment.pad
        self._plane = (self._height + augment.pad) * self._stride
        self._block = (self._channels - 1) * self._plane + (self._height - 1) * self._stride + self._width
        plain = not augment.pad and not augment.flip
        buffer = images.contiguous().view(-1).numpy() if plain else self._lay_out(images, augment)
        starts = max(0, buffer.size - self._block + 1)
        # Each start has an item of `block` bytes; items overlap. numpy copies an opaque item with one memcpy.
        self._windows = np.ndarray((starts,), np.dtype((np.void, self._block)), buffer.data, strides=(1,))

    @staticmethod
    def bytes_needed(images: UInt8[Tensor, "n c h w"], augment: AugmentConfig) -> int:
        """Return the size in bytes of the buffer for these images; 0 without augmentation, which needs no copy."""
        if not augment.pad and not augment.flip:
            return 0
        n, c, h, w = images.shape
        return n * c * (h + augment.pad) * (w + augment.pad) * (2 if augment.flip else 1)

    def _lay_out(self, images: UInt8[Tensor, "n c h w"], augment: AugmentConfig) -> UInt8[np.ndarray, "bytes"]:
        copies = 2 if augment.flip else 1
        lead = augment.pad * self._stride + augment.pad
        buffer = np.zeros(lead + copies * self._count * self._channels * self._plane, np.uint8)
        rows = self._plane // self._stride
        planes = buffer[lead:].reshape(copies, self._count, self._channels, rows, self._stride)
        for first in range(0, self._count, _ROWS_PER_COPY):
            part = images[first : first + _ROWS_PER_COPY].numpy()
            for copy, source in zip(planes, (part, part[..., ::-1])[:copies], strict=True):
                copy[first : first + len(part), :, : self._height, : self._width] = source
        return buffer

    def starts(self, rows: Int64[Tensor, "b"], parameters: ViewParameters) -> Int64[np.ndarray, "b"]:
        """Return where the views of the given rows begin in the buffer."""
        flip = parameters.flip.long()
        # Mirroring after a crop at dx is a crop of the mirrored image at 2 pad - dx.
        dx = parameters.dx + flip * (2 * self._pad - 2 * parameters.dx)
        image = (rows + flip * self._count) * (self._channels * self._plane)
        return (image + parameters.dy * self._stride + dx).numpy()

    def crops(self, starts: Int64[np.ndarray, "b"]) -> UInt8[np.ndarray, "b c h w"]:
        """Copy the views that begin at these positions of the buffer, and return them as a strided array."""
        shape = (len(starts), self._channels, self._height, self._width)
        strides = (self._block, self._plane, self._stride, 1)
        return np.ndarray(shape, np.uint8, self._windows[starts].data, strides=strides)
