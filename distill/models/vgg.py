"""Define the VGG networks of the usual distillation benchmarks (RepDistiller, mdistiller), named as there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from distill.models.resnet import initialise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Compute logits by five blocks of convolutions with batch norm and ReLU, and one linear layer.

    A maximum over 2 × 2 pixels follows each of the first three blocks, and the fourth for images 64 pixels high;
    a mean over all pixels follows the last. Parameters have the names of RepDistiller's.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width.
        convolutions: number of convolutions in each block.

    Raises:
        ValueError: there are not five blocks, one has no convolution, or the images are too small.
    """

    def __init__(
        self, num_classes: int, in_shape: tuple[int, int, int], convolutions: Sequence[int] = (2, 2, 2, 2, 2)
    ):
        if len(convolutions) != len(_WIDTHS) or min(convolutions) < 1:
            raise ValueError(f"convolutions are five numbers of at least 1, got {list(convolutions)}")
        pools = 4 if in_shape[1] == 64 else 3
        if min(in_shape[1:]) < 2**pools:
            raise ValueError(f"it needs {2**pools} or more pixels on each side: choose larger images")
        super().__init__()
        self._pools = pools
        channels = in_shape[0]
        for number, (out, count) in enumerate(zip(_WIDTHS, convolutions, strict=True)):
            self.add_module(f"block{number}", _block(channels, out, count))
            channels = out
        self.classifier = nn.Linear(channels, num_classes)
        initialise(self)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        *blocks, _ = self.children()
        for number, block in enumerate(blocks):
            x = F.relu(block(x))
            if number < self._pools:
                x = F.max_pool2d(x, 2)
        return self.classifier(x.mean((2, 3)))


def _block(channels: int, out: int, count: int) -> nn.Sequential:
    """Make convolutions with norms, and a ReLU between them but none at the end."""
    layers: list[nn.Module] = []
    for number in range(count):
        layers += [nn.Conv2d(out if number else channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
