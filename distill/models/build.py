"""Build the network of a config, and check that it fits the data before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models.reference import constructor


def build_model(config: ModelConfig, num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    """Build the network of a config, which maps normalised images to logits.

    Its initial weights depend on torch's seed alone. `in_shape` is channels, height, width.

    Raises:
        UserError: the network is unknown, or it cannot be built from these arguments.
    """
    return _construct(constructor(config, num_classes, in_shape), config, in_shape)


class Chosen(nn.Module):
    """Give some of the logits of a network, in another order."""

    columns: torch.Tensor

    def __init__(self, network: nn.Module, columns: Sequence[int]):
        super().__init__()
        self.network = network
        # The weights stay those of the file, so what is chosen is not stored among them.
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of the chosen columns."""
        return self.network(images).index_select(1, self.columns)


def refuse_larger(config: ModelConfig, num_classes: int, in_shape: tuple[int, int, int], most: int) -> None:
    """Refuse a network that is larger than its file of weights, before it takes its memory.

    A network that cannot be built on the meta device passes, since its size is not known. torch's generators are
    left alone. `most` is the size of the file in bytes.

    Raises:
        UserError: as `build_model`; or parameters and buffers of the network have more bytes than the file.
    """
    construct = constructor(config, num_classes, in_shape)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                # Count tensors as a file stores them: tied ones once, and no buffer that is made anew.
                stored = {id(each): each for each in construct().state_dict(keep_vars=True).values()}
                needed = sum(each.numel() * each.element_size() for each in stored.values())
        except Exception:
            return
    if needed > most:
        value = f"{config.name} with {needed:,} bytes of weights for images of shape {list(in_shape)}"
        way_out = "Delete its folder, and train it again."
        raise UserError("model", value, f"at most the {most:,} of their file", way_out)


def check_model(
    config: ModelConfig,
    num_classes: int,
    in_shape: tuple[int, int, int],
    label_shape: tuple[int, ...] = (),
    single: bool = False,
) -> None:
    """Build the network and run two images through it, in evaluation and in training mode.

    The check costs no memory where the network can be built on the meta device. torch's generators are left alone.

    Args:
        config: network and its arguments.
        num_classes: number of logits for each label.
        in_shape: channels, height, width.
        label_shape: () for one label per image, (T,) for one per position.
        single: whether training runs single images through the network; batch norm cannot take one.

    Raises:
        UserError: as `build_model`; or the network cannot take images of this shape, gives something other than
            `num_classes` logits for each label, or has no weights that training could change.
    """
    # Of hundreds of small networks many are alike, and trying one out takes as long as some of its epochs.
    checked = config.model_dump_json(), num_classes, in_shape, label_shape, single
    if checked in _passed:
        return
    construct = constructor(config, num_classes, in_shape)
    with torch.random.fork_rng(devices=[]):
        for device in ("meta", "cpu"):
            try:
                with torch.device(device):
                    _try_out(construct, config, (2, *label_shape, num_classes), in_shape, single)
                break
            except Exception:
                # Some networks read numbers while they are built, and meta tensors have none.
                if device == "cpu":
                    raise
    _passed.add(checked)


_passed: set[tuple[str, int, tuple[int, int, int], tuple[int, ...], bool]] = set()
"""Arguments with which `check_model` was called in this process and raised no error."""


def _construct(
    construct: Callable[[], nn.Module], config: ModelConfig, in_shape: tuple[int, int, int]
) -> nn.Module:
    try:
        model = construct()
    except Exception as error:
        field, value = ("model.kwargs", config.kwargs) if config.kwargs else ("model.name", config.name)
        expected = f"what {config.name} can be built from, for images of shape {list(in_shape)}"
        raise UserError(field, value, expected, f"It says: {_first_line(error)}.") from error
    if not isinstance(model, nn.Module):
        way_out = f"It returned a {type(model).__name__}."
        raise UserError("model.name", config.name, "a function that returns a torch.nn.Module", way_out)
    return model


def _try_out(
    construct: Callable[[], nn.Module],
    config: ModelConfig,
    out_shape: tuple[int, ...],
    in_shape: tuple[int, int, int],
    single: bool,
) -> None:
    model = _construct(construct, config, in_shape)
    images = torch.zeros(2, *in_shape)
    if images.is_meta and any(weight.dtype != torch.float32 for weight in model.parameters()):
        raise NotImplementedError("no operation on the meta device refuses a mixture of types")
    for training in (False, True):
        try:
            with torch.set_grad_enabled(training):
                logits = model.train(training)(images)
        except Exception as error:
            way_out = f"{_advice(config, in_shape, model)} It says: {_first_line(error)}."
            expected = f"a network that takes images of shape {list(in_shape)} (channels, height, width)"
            raise UserError("model.name", config.name, expected, way_out) from error
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if got != list(out_shape):
            mode = "training" if training else "evaluation"
            per = "image" if len(out_shape) == 2 else "position"
            expected = f"{out_shape[-1]} logits per {per}: {list(out_shape)} for two images"
            way_out = f"In {mode} mode it gives {got}: change the network or the data set."
            raise UserError("model.name", config.name, expected, way_out)
    if not (logits.is_floating_point() and logits.requires_grad):
        weights = sum(weight.requires_grad for weight in model.parameters())
        way_out = f"{weights} of its parameters take a gradient, and it gives logits of {logits.dtype}."
        raise UserError("model.name", config.name, "a network whose logits lead a gradient to its weights", way_out)
    if single:
        _try_single(model, config, images[:1])


def _try_single(model: nn.Module, config: ModelConfig, image: torch.Tensor) -> None:
    try:
        with torch.no_grad():
            model(image)
    except Exception as error:
        expected = f"2 or more images at a time, for {config.name}"
        way_out = "Raise `schedule.batch_size`, lower `schedule.parts`, or train on more images."
        way_out += f" It says: {_first_line(error)}."
        raise UserError("schedule.batch_size", "1 image at a time", expected, way_out) from error


def _advice(config: ModelConfig, in_shape: tuple[int, int, int], model: nn.Module) -> str:
    if any(weight.dtype in (torch.float16, torch.bfloat16) for weight in model.parameters()):
        return "Leave its weights in float32: `precision` says in what it computes."
    if config.name.startswith("torchvision:") and in_shape[0] != 3:
        return "Networks of torchvision take 3 channels; networks of timm adapt: set `model.name` to timm:NAME."
    if config.name.startswith("timm:"):
        return f'Some networks of timm need `model.kwargs={{"img_size": {in_shape[1]}}}`.'
    return "Choose another network or other images."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
