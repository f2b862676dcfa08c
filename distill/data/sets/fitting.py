"""Resize and crop an image to a square, as torchvision's and timm's transforms for evaluation do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")


class Fit(NamedTuple):
    """Say how an image becomes a square: it is resized, and its centre is cropped."""

    size: int | None = None
    """Side of the square in pixels; None keeps the image as it is."""
    crop: float = 1.0
    """Share of the resized shorter side that is kept; 0.875 resizes it to 256 pixels for a square of 224."""
    interpolation: str = "bilinear"
    """Name of a filter of Pillow, in small letters."""

    @property
    def resized(self) -> int | None:
        """Return the number of pixels to which the shorter side is resized."""
        # As timm rounds; without the small number, 224 / (224 / 232) would give 231.
        return None if self.size is None else math.floor(self.size / self.crop + 1e-6)


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """Return an image as a square of `fit.size` pixels, or unchanged where no size is given.

    The pixels are those of `Resize(fit.resized)` and `CenterCrop(fit.size)` of torchvision.
    """
    if fit.size is None or fit.resized is None:
        return image
    from PIL import Image

    short, long = sorted(image.size)
    if short != fit.resized:
        wide = max(fit.size, int(fit.resized * long / short))
        size = (wide, fit.resized) if image.width > image.height else (fit.resized, wide)
        image = image.resize(size, Image.Resampling[fit.interpolation.upper()])
    # Python's rounding to even, as in torchvision.
    left, top = (round((side - fit.size) / 2) for side in image.size)
    return image.crop((left, top, left + fit.size, top + fit.size))
