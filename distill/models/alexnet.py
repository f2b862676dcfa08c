"""Define the "AlexNet" of Müller et al. (2019), App. A.1: the network of TensorFlow's CIFAR-10 tutorial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SamePool(nn.Module):
    """Take the maximum of 3×3 pixels with stride 2 and TensorFlow's SAME padding, asymmetric for even sizes."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c oh ow"]:
        """Return images of half the size, rounded up."""
        # SAME pads 1 + 1 for an odd size, and 0 + 1 for an even one. For an even size, `ceil_mode` lets the last
        # window hang over the edge; for an odd size it has no effect.
        height, width = x.shape[-2:]
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=(int(height) % 2, int(width) % 2), ceil_mode=True)


def local_response_norm(
    depth_radius: int = 4, bias: float = 1.0, alpha: float = 0.001 / 9, beta: float = 0.75
) -> nn.LocalResponseNorm:
    """Return `tf.nn.lrn` as a torch layer, with TensorFlow's parameters; the defaults are the tutorial's."""
    # TensorFlow scales the sum over the 2 × depth_radius + 1 channels by alpha; torch scales their mean.
    size = 2 * depth_radius + 1
    return nn.LocalResponseNorm(size, alpha=alpha * size, beta=beta, k=bias)


class AlexNet(nn.Module):
    """Compute logits by two convolutions, two dense layers and a linear head: Müller's student (2019, section 4).

    Pooling and local response normalisation follow each convolution. The network has 1,756,426 parameters for
    3 × 32 × 32 images and 10 classes.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width; the tutorial trains on crops of 24 × 24.
    """

    def __init__(self, num_classes: int, in_shape: tuple[int, int, int]):
        super().__init__()
        channels, height, width = in_shape
        conv1 = nn.Conv2d(channels, 64, kernel_size=5, padding=2)
        conv2 = nn.Conv2d(64, 64, kernel_size=5, padding=2)
        pixels = -(-height // 4) * -(-width // 4)  # each side is halved twice, rounded up
        self.local3, self.local4 = nn.Linear(64 * pixels, 384), nn.Linear(384, 192)
        self.head = nn.Linear(192, num_classes)
        _initialise(conv1, std=0.05, bias=0.0)
        _initialise(conv2, std=0.05, bias=0.1)
        _initialise(self.local3, std=0.04, bias=0.1)
        _initialise(self.local4, std=0.04, bias=0.1)
        _initialise(self.head, std=1 / 192, bias=0.0)
        self.convolutions = nn.Sequential(
            conv1, nn.ReLU(), SamePool(), local_response_norm(), conv2, nn.ReLU(), local_response_norm(), SamePool()
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        x = self.convolutions(x).flatten(1)
        return self.head(F.relu(self.local4(F.relu(self.local3(x)))))

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights that timm shall not decay."""
        # The tutorial decays the two dense layers only.
        return {"convolutions.0.weight", "convolutions.4.weight", "head.weight"}


def _initialise(layer: nn.Conv2d | nn.Linear, std: float, bias: float) -> None:
    """Initialise a layer as `tf.truncated_normal_initializer` does, by a normal distribution cut at ±2 std."""
    nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
