"""Put normalisation and calibration around a network, so that bytes go in and calibrated logits come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from distill.data.network_input import NetworkInput, resized
from distill.data.normaliser import shift_and_factor
from distill.metrics.logit_scaling import Method, Scaling, scaled
from distill.models.build import Chosen

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8
    from torch import Tensor


class Exported(nn.Module):
    """Map images to logits whose softmax is calibrated, as an exported network does.

    It takes bytes [n, c, h, w] as they are in the data set, and normalises them itself. It returns float32 [n, k];
    the softmax of a row gives the probabilities.
    """

    pixel_shift: Tensor
    pixel_factor: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, network: nn.Module, data: Mapping[str, Any], scaling: Scaling):
        super().__init__()
        self.network = network
        self.method: Method = scaling.method
        self._takes = NetworkInput.of(data)
        # `Normaliser` works in place, but `torch.export` has to trace the two operations.
        shift, factor = shift_and_factor(data["mean"], data["std"])
        self.register_buffer("pixel_shift", shift)
        self.register_buffer("pixel_factor", factor)
        self.register_buffer("scale", scaling.scale.float())
        self.register_buffer("bias", scaling.bias.float())

    def forward(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n k"]:
        """Return the logits whose softmax is the calibrated probabilities."""
        pixels = images.float()
        if self._takes.interpolation != "none":
            pixels = resized(pixels, self._takes)
        logits = self.network((pixels - self.pixel_shift) * self.pixel_factor).float()
        return scaled(self.method, logits, self.scale, self.bias)

    @property
    def bare(self) -> nn.Module:
        """Return the network itself, whose weights have the names that its library gives them."""
        return self.network.network if isinstance(self.network, Chosen) else self.network
