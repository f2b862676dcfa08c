"""Find the constructor of a network by its name; name and arguments are checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from distill.config import NETWORKS, ModelConfig
from distill.config.network import did_you_mean
from distill.errors import UserError
from distill.system.libraries import import_library
from distill.system.plugins import bind, resolve
from distill.system.references import referenced

_DECIDED = {"num_classes", "in_shape", "in_chans", "pretrained", "weights"}
"""Arguments that follow from the data set and the seed, so that no config may set them."""
# These tell timm where to read weights from, and a pickle of weights may hide code.
_DECIDED |= {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


def constructor(config: ModelConfig, num_classes: int, in_shape: tuple[int, int, int]) -> Callable[[], nn.Module]:
    """Return a function without arguments that builds the network of a config.

    Raises:
        UserError: the network is unknown, or it does not take one of the arguments.
    """
    if taken := sorted(_DECIDED & set(config.kwargs)):
        expected = f"no {' and no '.join(taken)}, which the data set and the seed decide"
        raise UserError("model.kwargs", config.kwargs, expected, f"Drop {' and '.join(taken)}.")
    source, _, name = config.name.partition(":")
    if source == "timm":
        return _timm(config, name, num_classes, in_shape[0])
    if source == "torchvision":
        return _torchvision(config, name, num_classes)
    if name:
        factory = resolve(config.name, "model.name", config.content)
        return bind(factory, "model.kwargs", num_classes, in_shape, **config.kwargs)
    network = NETWORKS[source]
    kwargs = {**network.kwargs, **config.kwargs}
    return bind(referenced(network.build), "model.kwargs", num_classes, in_shape, **kwargs)


def _timm(config: ModelConfig, name: str, num_classes: int, channels: int) -> Callable[[], nn.Module]:
    timm = import_library("timm")
    if not timm.is_model(name):
        way_out = did_you_mean(name, timm.list_models(), "timm:")
        raise UserError("model.name", config.name, "a network that timm knows", way_out)
    return lambda: timm.create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=channels, **config.kwargs
    )


def _torchvision(config: ModelConfig, name: str, num_classes: int) -> Callable[[], nn.Module]:
    models = import_library("torchvision.models")
    # Only classifiers are listed: some other networks download a backbone when they are built.
    names = models.list_models(module=models)
    if name.lower() not in names:
        way_out = did_you_mean(name, names, "torchvision:")
        raise UserError("model.name", config.name, "a classifier that torchvision knows", way_out)
    return lambda: models.get_model(name, weights=None, num_classes=num_classes, **config.kwargs)
