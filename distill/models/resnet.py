"""Define the CIFAR ResNets of the usual distillation benchmarks (RepDistiller, mdistiller), named as there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from distill.system.libraries import import_library

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

POOL = 8
"""Pixels on each side of the average pool, which is all of a 32 × 32 image after two strides of 2."""


class ResNet(nn.Module):
    """Compute logits by a stem, three groups of torchvision's basic blocks, an average pool and a linear head.

    ReLU comes after the addition, as in He et al. 2016 ("Deep Residual Learning"). A shortcut between different
    numbers of channels is a 1×1 convolution with a norm. Parameters have the names of RepDistiller's.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width.
        depth: number of layers, 6n + 2 for n blocks in each group.
        widths: channels of the stem and of the three groups.

    Raises:
        ValueError: depth or widths are no such numbers, or the average pool does not fit the images.
    """

    def __init__(
        self,
        num_classes: int,
        in_shape: tuple[int, int, int],
        depth: int = 56,
        widths: Sequence[int] = (16, 16, 32, 64),
    ):
        blocks = blocks_per_group(depth, 2)
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"widths are four numbers of at least 1, got {list(widths)}")
        check_pool(in_shape)
        super().__init__()
        stem, first, second, third = widths
        self.conv1 = nn.Conv2d(in_shape[0], stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _group(blocks, stem, first, stride=1)
        self.layer2 = _group(blocks, first, second, stride=2)
        self.layer3 = _group(blocks, second, third, stride=2)
        self.fc = nn.Linear(third, num_classes)
        initialise(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.avg_pool2d(x, POOL).flatten(1))


def _group(blocks: int, channels: int, out: int, stride: int) -> nn.Sequential:
    """Make a group of blocks, of which the first changes the number of channels and the size."""
    block = import_library("torchvision.models.resnet").BasicBlock
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    return nn.Sequential(block(channels, out, stride, shortcut), *(block(out, out) for _ in range(blocks - 1)))


def blocks_per_group(depth: int, beside: int) -> int:
    """Return n for a network of 6n layers in blocks and some `beside` them, or raise a ValueError."""
    blocks, rest = divmod(depth - beside, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth must be 6n + {beside} with n of at least 1, got {depth}")
    return blocks


def check_pool(in_shape: tuple[int, int, int]) -> None:
    """Raise a ValueError if the average pool does not reduce an image to one pixel."""
    # Two strides of 2 leave a quarter of each side, rounded up; the pool takes 8 to 15 of them.
    least, most = 4 * POOL - 3, 4 * (2 * POOL - 1)
    if not least <= min(in_shape[1:]) <= max(in_shape[1:]) <= most:
        way_out = "resize the images, best to 32, or choose another network"
        raise ValueError(f"its average pool needs {least} to {most} pixels on each side: {way_out}")


def initialise(model: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. 2015 do, with variance 2 / fan-out; biases are 0."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
