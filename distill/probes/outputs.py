"""Compute what a network makes of images: its logits and its penultimate activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from distill.data.network_input import NetworkInput
from distill.data.sets.streams.images import pixels_of
from distill.models.last_layer import last_linear, penultimate
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_network
from distill.training.predict import inference_batch, predict

if TYPE_CHECKING:
    from jaxtyping import Float, Float32
    from torch import Tensor, nn

    from distill.data.sets.dataset import Images


def logits_of(
    network: Artifact, images: Images, runtime: Runtime, step: int | None = None
) -> Float[Tensor, "n *t k"]:
    """Return the logits for images; with a step, by the weights that the network kept after so many updates."""
    device = runtime.torch_device()
    normalise = NetworkInput.of(network.data).normaliser(device)
    return predict(load_network(network, device, step), images, normalise, device)


def activations_of(
    network: Artifact, images: Mapping[str, Images], runtime: Runtime
) -> tuple[nn.Linear, dict[str, Float32[Tensor, "n d"]]]:
    """Return the last layer of a network, and the penultimate activations for each named group of images.

    Raises:
        UserError: the network does not end in a linear layer.
    """
    device = runtime.torch_device()
    model, normalise = load_network(network, device), NetworkInput.of(network.data).normaliser(device)
    first = next(iter(images.values()))
    few = pixels_of(first, torch.arange(min(2, len(first))))
    head = last_linear(model, normalise(few.to(device)), len(network.data["classes"]))
    batch = inference_batch(device)
    return head, {
        name: penultimate(model, head, each.split(batch), normalise, device) for name, each in images.items()
    }
