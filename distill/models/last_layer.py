"""Read the penultimate activations and last-layer weights of any classifier that ends in a linear layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jaxtyping import Float, Float32, UInt8
    from torch import Tensor


def last_linear(model: nn.Module, images: Float32[Tensor, "b c h w"], num_classes: int) -> nn.Linear:
    """Find the linear layer whose outputs for normalised images are the logits of a model in evaluation mode.

    Raises:
        UserError: the logits do not come straight from a linear layer (but from a convolution, a mean of two heads
            or of positions, a cosine), so there are no templates.
    """
    outputs: dict[nn.Linear, Tensor] = {}

    def catch(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        outputs.pop(layer, None)  # a layer that is used twice is ordered by its last use
        outputs[layer] = output

    # A layer is recognised by its output, since a hidden layer may have as many units as there are classes, and
    # some heads may be used in training only. Of the layers whose output equals the logits, the last one to run is
    # taken.
    wide = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes]
    with _hooks(wide, catch), torch.inference_mode():
        logits = model(images)
    heads = [layer for layer, output in outputs.items() if torch.equal(output, logits)]
    if heads:
        return heads[-1]
    expected = f"a network whose {num_classes} logits are the output of a torch.nn.Linear"
    way_out = "Choose another network: others have no penultimate activations and templates."
    raise UserError("model", type(model).__name__, expected, way_out)


def templates(head: nn.Linear) -> Float32[Tensor, "k d+1"]:
    """Return the weights of each class with its bias appended, on the CPU (Müller et al. 2019, section 2).

    A logit is the product of a template and (activations, 1). A layer without biases has biases of 0.
    """
    weight = head.weight.detach().float()
    bias = torch.zeros_like(weight[:, 0]) if head.bias is None else head.bias.detach().float()
    return torch.cat([weight, bias.unsqueeze(1)], dim=1).cpu()


def penultimate(
    model: nn.Module,
    head: nn.Linear,
    batches: Iterable[UInt8[Tensor, "b c h w"]],
    normalise: Callable[[Tensor], Tensor],
    device: str,
) -> Float32[Tensor, "n d"]:
    """Return the input of the last layer for each image, on the CPU.

    The network runs in evaluation mode on the device; its own mode is restored.

    Args:
        model: network on the device.
        head: its last layer, as `last_linear` returns it.
        batches: images as they are stored, one or more in all.
        normalise: function from bytes to what the network takes.
        device: device of the network.
    """
    parts, caught = [], []
    was_training = model.training
    model.eval()
    with _hooks([head], lambda _, inputs, __: caught.append(inputs[0])), torch.inference_mode():
        for batch in batches:
            model(normalise(batch.to(device)))
            parts.append(caught[-1].float().cpu())  # a layer may be used more than once: its last use counts
            caught.clear()
    model.train(was_training)
    return torch.cat(parts)


def with_one(activations: Float[Tensor, "n d"]) -> Float[Tensor, "n d+1"]:
    """Append a 1 to each activation vector, so that its product with a class's (weights, bias) is a logit."""
    return torch.cat([activations, torch.ones_like(activations[:, :1])], dim=1)


@contextmanager
def _hooks(layers: list[nn.Linear], hook: Callable[..., None]) -> Iterator[None]:
    """Inside a `with` block, call `hook(layer, inputs, output)` after each forward pass of any of these layers."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
