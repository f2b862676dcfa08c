"""Put weights from elsewhere into a network, and find out how many outputs and channels it has by their shapes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models.build import build_model
from distill.system.weights import without_wrappers

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 3
"""Number of names that an error tells."""
_COUNTERS = "num_batches_tracked"
"""End of the name of a number that no evaluation reads, which the oldest checkpoints lack."""


@dataclass(frozen=True)
class Fitting:
    """Hold a network with its weights from elsewhere, and what their shapes say."""

    model: nn.Module
    outputs: int
    channels: int


@dataclass(frozen=True)
class _Try:
    """Hold what is wrong with weights for a network of so many outputs and channels."""

    outputs: int
    channels: int
    weights: Mapping[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    differing: list[str]

    @property
    def wrong(self) -> int:
        """Return the number of names with which something is wrong."""
        return len(self.missing) + len(self.unexpected) + len(self.differing)

    @property
    def told(self) -> str:
        """Say what is wrong, by number and name."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.differing))
        return "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in kinds if names)


def fit_weights(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    outputs: Iterable[int],
    shape: tuple[int, int, int],
    file: str,
) -> Fitting:
    """Return the network of a config with these weights.

    Args:
        weights: name → tensor; names may have what wrappers write in front of them.
        config: the network.
        outputs: numbers of outputs that it may have, the likeliest first; others are found in the weights.
        shape: channels, height and width of the images; a network of three channels may take grey ones.
        file: name of the file, for an error.

    Raises:
        UserError: the network cannot be built, weights are missing, unexpected or of another shape, or not finite.
    """
    best: _Try | None = None
    # A network of torchvision takes three channels, whatever it is asked for.
    channels = (shape[0],) if shape[0] != 1 else (3,) if config.name.startswith("torchvision:") else (1, 3)
    for count in dict.fromkeys([*outputs, *_widths(weights)]):
        for each in channels:
            tried = _compared(weights, config, count, (each, *shape[1:]))
            best = tried if best is None or tried.wrong < best.wrong else best
            if not tried.wrong:
                return _filled(tried, config, shape, file)
    assert best is not None, "there is at least the number of classes"
    raise _misfit(best, config, file)


def of_classes(config: ModelConfig, outputs: int, shape: tuple[int, int, int]) -> dict[str, int]:
    """Return the weights whose shape depends on the number of classes, each with the dimension that does."""
    try:
        one, other = (_outline(config, count, shape).state_dict() for count in (outputs, outputs + 1))
    except UserError:  # a plug-in for so many classes and no others
        return {}
    return {
        name: dim
        for name, tensor in one.items()
        for dim, size in enumerate(tensor.shape)
        if name in other and tensor.ndim == other[name].ndim and size != other[name].shape[dim]
    }


def misfits(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say which weights are missing, unexpected or of another shape, by number and name; "" if none is."""
    return _tried(weights, wanted, 0, 0).told


def _widths(weights: Mapping[str, Tensor]) -> Iterator[int]:
    """Yield the numbers of outputs that the last weights in a file could have."""
    for tensor in list(weights.values())[-4:]:
        if tensor.ndim in (1, 2, 4) and 2 <= tensor.shape[0] <= 10**6:
            yield tensor.shape[0]


def _compared(given: Mapping[str, Tensor], config: ModelConfig, outputs: int, shape: tuple[int, int, int]) -> _Try:
    model = _outline(config, outputs, shape)
    wanted = model.state_dict(keep_vars=True)
    weights = without_wrappers(given, wanted)
    tried = _tried(weights, wanted, outputs, shape[0])
    module = sys.modules[type(model).__module__]
    # What the first authors of a network published may have other names, which timm translates.
    translate = getattr(module, "checkpoint_filter_fn", None) if config.name.startswith("timm:") else None
    if not (tried.missing or tried.unexpected) or translate is None:
        return tried
    try:
        translated = _tried(translate(dict(weights), model), wanted, outputs, shape[0])
    except Exception:  # of files that it was not written for
        return tried
    return translated if not translated.wrong else tried


def _tried(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], outputs: int, channels: int) -> _Try:
    there = {id(tensor) for name, tensor in wanted.items() if name in weights}  # of tied weights one is stored
    missing = [
        name
        for name, tensor in wanted.items()
        if name not in weights and id(tensor) not in there and not name.endswith(_COUNTERS)
    ]
    unexpected = [name for name in weights if name not in wanted]
    differing = [
        f"{name} is {list(weights[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return _Try(outputs, channels, weights, missing, unexpected, differing)


def _outline(config: ModelConfig, outputs: int, shape: tuple[int, int, int]) -> nn.Module:
    """Build a network without memory for its weights, where it can be built so."""
    with torch.random.fork_rng(devices=[]):
        for device in ("meta", "cpu"):
            try:
                with torch.device(device):
                    return build_model(config, outputs, shape)
            except Exception:  # some networks read numbers while they are built, and meta tensors have none
                if device == "cpu":
                    raise
    raise AssertionError("unreachable")


def _filled(tried: _Try, config: ModelConfig, shape: tuple[int, int, int], file: str) -> Fitting:
    broken = [
        name
        for name, tensor in tried.weights.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        value = f"{file} with NaN or infinity in {_some(broken)}"
        raise UserError("file", value, "finite weights", "Take a checkpoint from before it diverged.")
    with torch.random.fork_rng(devices=[]):
        model = build_model(config, tried.outputs, (tried.channels, *shape[1:]))
    try:
        # What is not there has been looked at: tied weights, and numbers that no evaluation reads.
        model.load_state_dict(tried.weights, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise UserError("file", f"{file}: {reason}", f"weights of {config.name}", "Give another file.") from error
    return Fitting(model.eval(), tried.outputs, tried.channels)


def _misfit(tried: _Try, config: ModelConfig, file: str) -> UserError:
    expected = f"the weights of {config.name} ({tried.told})"
    way_out = "Set `model.name` and `model.kwargs` to the network that was trained."
    return UserError("file", file, expected, way_out)


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
