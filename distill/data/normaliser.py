"""Normalise pixels by the mean and standard deviation of each channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor


def shift_and_factor(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[Float32[Tensor, "c 1 1"], Float32[Tensor, "c 1 1"]]:
    """Return (shift, factor) so that (x - shift) * factor = (x / 255 - mean) / std for pixels x of 0..255.

    The shift is subtracted first, then the factor is multiplied.
    """
    shift = (torch.tensor(mean, dtype=torch.float64) * 255).float().view(-1, 1, 1)
    factor = (1 / (torch.tensor(std, dtype=torch.float64) * 255)).float().view(-1, 1, 1)
    return shift, factor


class Normaliser:
    """Map pixels x of 0..255 (bytes or floats) to (x / 255 - mean) / std, per channel.

    Args:
        mean: mean of each channel, in 0..1 units.
        std: standard deviation of each channel, in 0..1 units.
        device: device of the images.
        channels_last: whether normalised images have the memory format channels_last.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "cpu",
        channels_last: bool = False,
    ):
        self.device, self.layout = torch.device(device), torch.contiguous_format
        if channels_last:
            self.layout = torch.channels_last
        # One subtraction and one product give two roundings: the result is bit-identical on every device and for
        # every batch.
        self._shift, self._factor = (each.to(device) for each in shift_and_factor(mean, std))

    def shape_for(self, images: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what is made of images of a shape: the same one."""
        return images

    def __call__(self, images: UInt8[Tensor, "b c h w"] | Float32[Tensor, "b c h w"]) -> Float32[Tensor, "b c h w"]:
        """Return normalised images in fresh memory."""
        out = torch.empty(
            self.shape_for(images.shape), dtype=torch.float32, device=images.device, memory_format=self.layout
        )
        return out.copy_(images).sub_(self._shift).mul_(self._factor)

    def write(self, images: UInt8[np.ndarray, "b c h w"], out: Float32[np.ndarray, "b c h w"]) -> None:
        """Normalise images on a CPU into given memory."""
        # numpy, since torch shares each of these short operations among its threads, and waiting for them costs
        # milliseconds when another process has the core.
        np.copyto(out, images)
        out -= self._shift.numpy()
        out *= self._factor.numpy()
