"""Define fully connected networks, as Hinton et al. (2015) and Müller et al. (2019) use on MNIST."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class MLP(nn.Module):
    """Compute logits by fully connected ReLU layers and a linear head.

    The default widths are the teacher's of Müller et al. 2019, App. A.5.

    Args:
        num_classes: number of logits.
        in_shape: channels, height, width.
        widths: units of each hidden layer.
        dropout: share of hidden units dropped (Hinton et al. 2015 cite 0.5).
        input_dropout: share of pixels dropped (Hinton et al. 2015 cite 0.2).
        init_std: standard deviation of Gaussian initial weights, with zero biases; None takes torch's default,
            uniform weights and biases.

    Raises:
        ValueError: a layer has no units, or `init_std` is not positive.
    """

    def __init__(
        self,
        num_classes: int,
        in_shape: tuple[int, int, int],
        widths: Sequence[int] = (1200, 1200),
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        init_std: float | None = None,
    ):
        if init_std is not None and not init_std > 0:
            raise ValueError(f"init_std must be positive, got {init_std}")
        if min(widths, default=1) < 1:
            raise ValueError(f"every width must be at least 1, got {list(widths)}")
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout > 0:
            layers.append(nn.Dropout(input_dropout))
        inputs = math.prod(in_shape)
        for width in widths:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            inputs = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, num_classes)
        if init_std is not None:
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=init_std)
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Return the logits."""
        return self.head(self.body(x))
