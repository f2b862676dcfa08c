"""Say what a network takes, and prepare images for it: the one place where an image becomes a network's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torch.nn import functional

from distill.data.normaliser import Normaliser
from distill.data.sets.fitting import Fit
from distill.data.sets.streams.images import StreamedImages
from distill.errors import UserError

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float32
    from torch import Tensor

    from distill.data.sets.dataset import Split

_MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest-exact"}


class NetworkInput(NamedTuple):
    """Hold what a network takes: images of one shape, normalised by one mean and standard deviation.

    An image of another size is resized, and a grey one is repeated for a network of three channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    interpolation: str = "none"
    """How images of another size are resized; "none" for a network that takes images of its own size only."""
    crop: float = 1.0
    """Share of the resized shorter side that an evaluation of original files keeps."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> NetworkInput:
        """Return what a network takes, from what its record says about its data."""
        channels, height, width = data["shape"]
        own = cls(tuple(data["mean"]), tuple(data["std"]), (channels, height, width))
        takes = data.get("takes")
        if takes is None:
            return own
        channels, height, width = takes["shape"]
        shape = channels, height, width
        return own._replace(shape=shape, interpolation=takes["interpolation"], crop=takes["crop"])

    def record(self) -> dict[str, Any]:
        """Return what a record says of it beside mean and standard deviation."""
        return {"shape": list(self.shape), "interpolation": self.interpolation, "crop": self.crop}

    def normaliser(self, device: str | torch.device = "cpu") -> Normaliser:
        """Return the function from pixels of 0..255 to what the network takes."""
        return _Resizing(self, device) if self.interpolation != "none" else Normaliser(self.mean, self.std, device)

    def seen_of(self, split: Split) -> Split:
        """Return the images of a split as an evaluation shows them to this network, before normalisation.

        Streamed images are resized and cropped from the original file, as the network's own evaluation does.
        """
        _, height, width = self.shape
        if self.interpolation == "none" or height != width or not isinstance(split.images, StreamedImages):
            return split
        fit = Fit(height, self.crop, self.interpolation)
        return replace(split, images=split.images.fitted(fit))


def resized(images: Float32[Tensor, "b c h w"], to: NetworkInput) -> Float32[Tensor, "b c h2 w2"]:
    """Return images at the size that a network takes, in units 0..255, as torchvision resizes floats (antialiased).

    Raises:
        UserError: this interpolation is of original files only.
    """
    if images.shape[-2:] == to.shape[1:]:
        return images
    if to.interpolation not in _MODES:
        expected = f"one of {', '.join(_MODES)}, to resize images that are decoded already"
        raise UserError("interpolation", to.interpolation, expected, "Choose one of these.")
    smooth = {} if to.interpolation == "nearest" else {"antialias": True, "align_corners": False}
    mode = _MODES[to.interpolation]
    return functional.interpolate(images, to.shape[1:], mode=mode, **smooth).clamp(0, 255)


class _Resizing(Normaliser):
    """Normalise images after they were resized, and repeated for as many channels as there are means."""

    def __init__(self, to: NetworkInput, device: str | torch.device):
        super().__init__(to.mean, to.std, device)
        self._to = to

    def shape_for(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what is made of images of a shape."""
        return (*images[:-3], *self._to.shape)

    def __call__(self, images: Tensor) -> Float32[Tensor, "b c h w"]:
        """Return resized and normalised images in fresh memory."""
        return super().__call__(resized(images.float(), self._to))
