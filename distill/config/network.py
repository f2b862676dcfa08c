"""Define the configs of a network, its optimiser and its schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distill.config.base import Config, Count, Fraction, Kwargs, Positive, Share, function_of, or_function
from distill.config.contents import NamesContent
from distill.errors import UserError


@dataclass(frozen=True)
class Network:
    """Describe a built-in network, in contrast to timm's, torchvision's and plug-ins: name, class, publication."""

    name: str
    # A reference and not the class, so that reading a config does not import torch.
    build: str
    """Reference `package.module:Class`; the class, a `torch.nn.Module`, takes (num_classes, in_shape, further
    arguments). A function that returns a module will do as well."""
    published: str
    """Publication that the architecture is from."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments, which those of a config override."""


_RESNET, _WRN, _VGG = (f"distill.models.{each}" for each in ("resnet:ResNet", "wide_resnet:WideResNet", "vgg:VGG"))

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("mlp", "distill.models.mlp:MLP", "Hinton et al. 2015"),
        Network("cnn", "distill.models.cnn:CNN", "of this project, for 28 x 28 images"),
        Network("alexnet", "distill.models.alexnet:AlexNet", "Müller et al. 2019"),
        Network("resnet56_preact", "distill.models.preact_resnet:PreActResNet", "Müller et al. 2019"),
        *(
            Network(f"resnet{depth}", _RESNET, "He et al. 2016", {"depth": depth})
            for depth in (20, 32, 44, 56, 110)
        ),
        *(
            Network(f"resnet{depth}x4", _RESNET, "He et al. 2016", {"depth": depth, "widths": [32, 64, 128, 256]})
            for depth in (8, 32)
        ),
        *(
            Network(f"wrn_{depth}_{width}", _WRN, "Zagoruyko et al. 2016", {"depth": depth, "width": width})
            for depth in (16, 40)
            for width in (1, 2)
        ),
        Network("vgg8", _VGG, "Simonyan et al. 2015", {"convolutions": [1, 1, 1, 1, 1]}),
        Network("vgg13", _VGG, "Simonyan et al. 2015", {"convolutions": [2, 2, 2, 2, 2]}),
        Network("transformer", "distill.models.transformer:Transformer", "Vaswani et al. 2017, for sentences"),
    )
}
"""All networks that have a name: name → network, in the order in which they are listed.

To add a network, add an entry here and write the class that it names.
"""

LISTED = ", ".join(
    f"{', '.join(each.name for each in several)} ({published})"
    for published, several in groupby(NETWORKS.values(), lambda each: each.published)
)
"""All networks by name, each with its publication, or several with theirs."""

ELSEWHERE = "timm:NAME, torchvision:NAME or package.module:function"
"""Forms of name that refer to networks of other libraries or plug-ins."""


def did_you_mean(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return a sentence with the names that are close to a wrong one, each with a prefix."""
    close = get_close_matches(name, list(names), n=5)
    return f"Close to it: {', '.join(prefix + match for match in close)}." if close else "No name is close to it."


class ModelConfig(NamesContent):
    """Choose the network: its name and its arguments."""

    place = "model."

    name: Annotated[
        str,
        or_function("model.name"),
        Field(description=f"{LISTED}, {ELSEWHERE}."),
    ] = "mlp"
    kwargs: Kwargs = {}
    """Arguments of the model, such as {"widths": [1200, 1200], "dropout": 0.5}, as JSON."""

    @property
    def plugin(self) -> str | None:
        """Return the reference of the function that builds the network, if the network is a plug-in."""
        return function_of(self.name, "timm", "torchvision")

    @model_validator(mode="after")
    def _known(self) -> ModelConfig:
        if self.name not in NETWORKS and not self.name.partition(":")[2]:
            expected = f"one of {', '.join([*NETWORKS, ELSEWHERE])}"
            raise UserError("model.name", self.name, expected, did_you_mean(self.name, NETWORKS))
        return self


class OptimConfig(Config):
    """Choose the optimiser, by timm's name for it, and its hyperparameters."""

    place = "optim."

    name: str = "momentum"
    """Any optimiser that timm knows: momentum, sgd (Nesterov), adamw, lamb, ..."""
    lr: Positive = 0.1
    """Peak learning rate."""
    momentum: Fraction = 0.9
    """Momentum (beta1 for adaptive optimisers is set by kwargs)."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay, not applied to biases and norms."""
    decay_biases: bool = False
    """Decay biases and norms too, as torch's optimisers do. What a network itself excepts stays without decay."""
    head_lr: Positive = 1.0
    """Learning rate of the last layer, as a share of the rate of all others."""
    clip: Positive | None = 1.0
    """Norm to which gradients are clipped; None does not clip."""
    kwargs: Kwargs = {}
    """Further arguments of the optimiser, as JSON."""


class ScheduleConfig(Config):
    """Choose how long to train, and how the learning rate changes over that time, by timm's schedulers."""

    place = "schedule."

    name: Literal["cosine", "linear", "step", "constant"] = "cosine"
    """Shape of the decay; linear and cosine end at lr x min_lr."""
    epochs: Count = 30
    """Passes over the training set (the transfer set, for a student). For weights as they are: `distill adopt`."""
    batch_size: Count = 128
    """Samples per step; the last incomplete batch of an epoch is dropped."""
    parts: Count = 1
    """Compute a batch in this many equal parts and average their gradients (gradient accumulation), which takes
    less memory. Batch norm sees one part at a time; under torchrun this many ranks need not share its
    statistics."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Linear warm-up, in epochs."""
    min_lr: Share = 0.0
    """Final learning rate, as a share of the peak."""
    decay_epochs: tuple[float, ...] = ()
    """For step: the epochs at which the rate is multiplied by decay_rate."""
    decay_rate: Share = 0.1
    """For step: the factor by which the rate is multiplied."""

    @model_validator(mode="after")
    def _equal_parts(self) -> ScheduleConfig:
        if self.batch_size % self.parts:
            expected = f"a divisor of the batch size, {self.batch_size}"
            raise UserError("schedule.parts", self.parts, expected, "Change one of the two.")
        return self
