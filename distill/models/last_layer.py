"""Penultimate activations and templates of any classifier that ends in a linear layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float, Float32, UInt8
    from torch import Tensor


def last_linear(model: nn.Module, images: Float32[Tensor, "b c h w"], num_classes: int) -> nn.Linear:
    """The linear layer whose outputs are the logits of `model`, found by looking at what each layer gives.

    A hidden layer may have as many units as there are classes, and a network may have heads that are used in
    training only: so it is the last of the layers that ran whose output is, number by number, what the network
    returned.

    Args:
        model: in evaluation mode, on the device of the images.
        images: normalised.
        num_classes: number of logits.

    Raises:
        UserError: the logits do not come straight from a linear layer (but from a convolution, a mean of two heads
            or of positions, a cosine), so there are no templates.
    """
    outputs: dict[nn.Linear, Tensor] = {}

    def catch(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        outputs.pop(layer, None)  # a layer that is used twice takes the place of its last use
        outputs[layer] = output

    wide = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes]
    with _hooks(wide, catch), torch.inference_mode():
        logits = model(images)
    heads = [layer for layer, output in outputs.items() if torch.equal(output, logits)]
    if heads:
        return heads[-1]
    expected = f"a network whose {num_classes} logits are the output of a torch.nn.Linear"
    way_out = "Penultimate activations and templates are defined for such networks only: choose another."
    raise UserError("model", type(model).__name__, expected, way_out)


def templates(head: nn.Linear) -> Float32[Tensor, "k d+1"]:
    """Weights of each class with its bias appended, on the CPU: a logit is the product with (activations, 1).

    Müller et al. 2019, section 2. A layer without biases has biases of 0.
    """
    weight = head.weight.detach().float()
    bias = torch.zeros_like(weight[:, 0]) if head.bias is None else head.bias.detach().float()
    return torch.cat([weight, bias.unsqueeze(1)], dim=1).cpu()


def penultimate(
    model: nn.Module,
    head: nn.Linear,
    images: UInt8[Tensor, "n c h w"],
    normalise: Callable[[Tensor], Tensor],
    device: str,
    batch_size: int,
) -> Float32[Tensor, "n d"]:
    """What goes into the last layer for each image, on the CPU, in evaluation mode; the model's mode is restored.

    Args:
        model: on the device.
        head: its last layer, of `last_linear`.
        images: n > 0, as they are stored.
        normalise: bytes → what the network takes.
        device: where the network lives.
        batch_size: images per forward.
    """
    parts, caught = [], []
    was_training = model.training
    model.eval()
    with _hooks([head], lambda _, inputs, __: caught.append(inputs[0])), torch.inference_mode():
        for batch in images.split(batch_size):
            model(normalise(batch.to(device)))
            parts.append(caught[-1].float().cpu())  # of the last use, where a layer is used more than once
            caught.clear()
    model.train(was_training)
    return torch.cat(parts)


def with_one(activations: Float[Tensor, "n d"]) -> Float[Tensor, "n d+1"]:
    """Activations with a 1 appended, that the bias of a template is multiplied by."""
    return torch.cat([activations, torch.ones_like(activations[:, :1])], dim=1)


@contextmanager
def _hooks(layers: list[nn.Linear], hook: Callable[..., None]) -> Iterator[None]:
    """Calls `hook(layer, inputs, output)` whenever one of the layers runs inside the block."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
