"""Define the wide ResNets of the usual distillation benchmarks (RepDistiller, mdistiller), named as there."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

from distill.models.resnet import POOL, blocks_per_group, check_pool, initialise

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class WideBlock(nn.Module):
    """Add BN-ReLU-conv-BN-ReLU-conv of an input to the input, or to a 1×1 convolution of the activated input.

    There is a convolution where the number of channels changes.
    """

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.convShortcut = nn.Conv2d(channels, out, 1, stride, bias=False) if channels != out else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        """Return the sum of the block's two branches."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


class WideResNet(nn.Module):
    """Compute logits by a stem, three groups of wide blocks, an average pool and a linear head.

    This is the network of Zagoruyko and Komodakis 2016 without dropout. Parameters have the names of
    RepDistiller's.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width.
        depth: number of layers, 6n + 4 for n blocks in each group.
        width: factor of 16 channels in the first group, doubled in each later one; the stem has 16.

    Raises:
        ValueError: depth or width is no such number, or the average pool does not fit the images.
    """

    def __init__(self, num_classes: int, in_shape: tuple[int, int, int], depth: int = 40, width: int = 2):
        blocks = blocks_per_group(depth, 4)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        check_pool(in_shape)
        super().__init__()
        first, second, third = 16 * width, 32 * width, 64 * width
        self.conv1 = nn.Conv2d(in_shape[0], 16, 3, padding=1, bias=False)
        self.block1 = _group(blocks, 16, first, stride=1)
        self.block2 = _group(blocks, first, second, stride=2)
        self.block3 = _group(blocks, second, third, stride=2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = nn.Linear(third, num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(x)), POOL).flatten(1))


def _group(blocks: int, channels: int, out: int, stride: int) -> nn.Sequential:
    """Make a group of blocks, of which the first changes the number of channels and the size."""
    layers = (WideBlock(channels, out, stride), *(WideBlock(out, out, 1) for _ in range(blocks - 1)))
    return nn.Sequential(OrderedDict(layer=nn.Sequential(*layers)))
