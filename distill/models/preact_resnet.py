"""Define the ResNet-56 of Müller et al. (2019), App. A.2: tensor2tensor's, with pre-activation blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_STEM = 16
_TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a unit normal distribution cut at ±2."""


class PreActBlock(nn.Module):
    """Add BN-ReLU-conv-BN-ReLU-conv of an input to the input (He et al. 2016, "Identity Mappings").

    Where `project` is true, as in the first block of a group, the output is added to a 1×1 convolution of the
    *activated* input, followed by a norm, instead.
    """

    def __init__(self, channels: int, out: int, stride: int, project: bool):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = _convolution(channels, out, 3, stride)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = _convolution(out, out, 3)
        self.projection = (
            nn.Sequential(_convolution(channels, out, 1, stride), nn.BatchNorm2d(out)) if project else None
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d oh ow"]:
        """Return the sum of the block's two branches, which may be negative."""
        active = F.relu(self.norm1(x))
        shortcut = x if self.projection is None else self.projection(active)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(active))))


class PreActResNet(nn.Module):
    """Compute logits by a ResNet-56 with pre-activation blocks: Müller's teacher (2019, section 4).

    A stem is followed by three groups of blocks, an average pool and a linear head. No norm or ReLU follows the
    last block.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width.
        width: channels of the first group, doubled in each later one. 32 is tensor2tensor's, and twice that of He
            et al. (2015); the stem has 16 in both.
        blocks: blocks of each of the three groups; 6 × blocks + 2 layers in all.

    Raises:
        ValueError: width or blocks is less than 1.
    """

    def __init__(self, num_classes: int, in_shape: tuple[int, int, int], width: int = 32, blocks: int = 9):
        if min(width, blocks) < 1:
            raise ValueError(f"width and blocks must be at least 1, got {width} and {blocks}")
        super().__init__()
        self.stem = nn.Sequential(_convolution(in_shape[0], _STEM, 3), nn.BatchNorm2d(_STEM), nn.ReLU())
        layers: list[nn.Module] = []
        channels = _STEM
        for group in range(3):
            for block in range(blocks):
                out, first = width * 2**group, block == 0
                layers.append(PreActBlock(channels, out, 2 if group and first else 1, project=first))
                channels = out
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, num_classes)
        # As in tf.layers.dense: Glorot's uniform weights, and biases of 0 at first.
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def _convolution(channels: int, out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Make a convolution initialised by the default of `tf.variance_scaling_initializer`.

    The variance of its weights is 1 / fan-in after truncation.
    """
    layer = nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)
    std = math.sqrt(1 / (channels * size * size)) / _TRUNCATED_STD
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    return layer
