"""Begin a training with the weights of another network; where its classes are others, the last layer is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from distill.config import AdoptedConfig, ModelConfig
from distill.data.network_input import NetworkInput
from distill.data.sets.dataset import Dataset
from distill.errors import UserError
from distill.metrics.smoothing_warnings import Notice
from distill.models.fitting import misfits, of_classes
from distill.store.artifact import Artifact
from distill.system.reading import check_safetensors
from distill.training.network import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor, nn


def begin_with(model: nn.Module, of: ModelConfig, dataset: Dataset, given: Artifact) -> dict[str, Any]:
    """Put the weights of a network into one that has its initial weights; return what a record says of it.

    Rows of the last layer are matched by the names of the classes. Where these are not known their number counts.

    Args:
        model: the network to train, whose own weights stay where no others are taken.
        of: its config.
        dataset: what it is trained on.
        given: the network whose weights are taken.

    Raises:
        UserError: the weights are damaged, or those of another architecture.
    """
    weights, wanted = _weights(given), model.state_dict(keep_vars=True)
    rows, told = _rows(given, dataset.classes)
    last = of_classes(of, dataset.num_classes, dataset.shape)
    for name, dim in last.items():
        if name in weights and rows is None:
            del weights[name]
        elif name in weights and rows != [*range(weights[name].shape[dim])]:
            weights[name] = weights[name].index_select(dim, torch.tensor(rows))
    new = [*last] if rows is None else []
    if wrong := misfits(weights, {name: tensor for name, tensor in wanted.items() if name not in new}):
        expected = f"a network with the weights of {of.name} ({wrong})"
        way_out = "Set `model.name` and `model.kwargs` to those of the network that it begins with."
        raise UserError("init", str(given.path), expected, way_out)
    # What is missing has been looked at: new weights, tied ones, and numbers that no evaluation reads.
    model.load_state_dict(weights, strict=False)
    return {"name": given.path.name, "sha256": given.record.files[WEIGHTS].sha256, "classes": told, "new": new}


def _weights(given: Artifact) -> dict[str, Tensor]:
    path = given.file(WEIGHTS)
    check_safetensors(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError("init", f"{path}: {error}", "weights as safetensors", given.rebuild) from error


def _rows(given: Artifact, classes: tuple[str, ...]) -> tuple[list[int] | None, str]:
    """Return which output of a network each class has, or None where they are others; and say it in words."""
    config = given.config
    if isinstance(config, AdoptedConfig) and config.only_weights:
        if config.outputs == len(classes):
            return [*range(len(classes))], "as many as in the file, taken in its order (declared, not proven)"
        return None, f"{len(classes)}, where the file has {config.outputs}"
    known = list(given.data["classes"])
    if sorted(known) != sorted(classes):
        return None, f"{len(classes)}, others than the {len(known)} of that network"
    columns = (isinstance(config, AdoptedConfig) and config.columns) or range(len(known))
    same = "the same" if tuple(known) == classes else "the same in another order, matched by name"
    return [columns[known.index(name)] for name in classes], same


def other_size(given: Artifact, dataset: Dataset) -> Notice | None:
    """Return a notice if a network took images of another size than those that its training goes on with."""
    own, here = (" x ".join(map(str, shape[1:])) for shape in (NetworkInput.of(given.data).shape, dataset.shape))
    if own == here:
        return None
    told = f"{given.path.name} took images of {own}, and its training goes on with {here}, the size of the data set"
    return Notice("other size", f"{told} (of a folder, its argument `size`)")
