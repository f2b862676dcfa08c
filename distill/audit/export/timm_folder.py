"""Write a network of timm as a folder that timm opens by itself, with the calibration inside its last layer."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_model
from torch import nn

from distill.data.network_input import NetworkInput
from distill.errors import UserError
from distill.metrics.logit_scaling import Scaling
from distill.models.build import Chosen
from distill.models.last_layer import last_linear

if TYPE_CHECKING:
    from torch import Tensor

TIMM = "timm"
_LARGEST = 1e-4
"""Largest difference of logits that rounding explains, relative to the largest logit, or to 1 if that is larger."""


def write_timm_folder(
    network: nn.Module,
    scaling: Scaling,
    columns: Sequence[int],
    takes: NetworkInput,
    classes: Sequence[str],
    folder: Path,
) -> tuple[str, float | None]:
    """Write a folder for `timm.create_model("local-dir:…", pretrained=True)`, and open it to compare logits.

    Returns the reason why there is no such folder, or the largest difference of a logit.

    Args:
        network: network of timm in evaluation mode, or the chosen columns of one.
        scaling: calibration of its logits.
        columns: columns of the network's logits that are its classes; none for all.
        takes: size and normalisation of its images.
        classes: names of the classes, in the order of the logits.
        folder: folder to write.
    """
    import timm

    bare = network.network if isinstance(network, Chosen) else network
    assert isinstance(bare, nn.Module)
    images = torch.randn(4, *takes.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = scaling.apply(network(images))
    try:
        folded = _folded(bare, scaling, columns, images)
        _check(_difference(folded, images, expected), expected, "its last layer cannot hold the calibration")
        folder.mkdir()
        _write(folded, takes, classes, folder)
        opened = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True).eval()
        difference = _difference(opened, images, expected)
        _check(difference, expected, "timm opens it as another network")
    except UserError as error:
        reason = f"{error.args[1]} is not {error.args[2]}"
    except Exception as error:  # timm builds a network of any arguments here, which can raise any type
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    else:
        return "", difference
    shutil.rmtree(folder, ignore_errors=True)
    return reason, None


def _folded(bare: nn.Module, scaling: Scaling, columns: Sequence[int], images: Tensor) -> nn.Module:
    """Return a copy whose last layer gives calibrated logits, of the chosen classes only."""
    if scaling.method == "platt":
        raise ValueError("the calibration platt is not linear; temperature and vector are")
    bare = copy.deepcopy(bare)
    with torch.inference_mode():
        outputs = bare(images).shape[1]
    if scaling.method == "none" and not columns:
        return bare
    head = last_linear(bare, images, outputs)
    taken = list(columns) or list(range(outputs))
    scale = scaling.scale.expand(len(taken))
    if head.bias is None and scaling.bias.any():
        raise ValueError("its last layer has no bias to hold that of the calibration")
    weight = head.weight.detach()[taken].double() * scale[:, None]
    head.weight = nn.Parameter(weight.float())
    if head.bias is not None:
        head.bias = nn.Parameter((head.bias.detach()[taken].double() * scale + scaling.bias).float())
    head.out_features = len(taken)
    bare.num_classes = len(taken)  # pyright: ignore[reportArgumentType] timm's own attribute
    return bare


def _write(network: nn.Module, takes: NetworkInput, classes: Sequence[str], folder: Path) -> None:
    """Write the weights, and timm's own description of network, classes and preprocessing."""
    from timm.models import _hub

    save_model(network, str(folder / "model.safetensors"))
    preprocessing = {
        "input_size": takes.shape,
        "mean": takes.mean,
        "std": takes.std,
        "interpolation": "bilinear" if takes.interpolation == "none" else takes.interpolation,
        "crop_pct": takes.crop,
    }
    named = {"num_classes": len(classes), "label_names": list(classes)}
    _hub.save_config_for_hf(network, str(folder / "config.json"), named, data_config=preprocessing)


def _difference(network: nn.Module, images: Tensor, expected: Tensor) -> float:
    with torch.inference_mode():
        return (network(images).double() - expected).abs().max().item()


def _check(difference: float, expected: Tensor, problem: str) -> None:
    if not difference <= _LARGEST * max(1.0, expected.abs().max().item()):
        raise ValueError(f"{problem} (logits differ by {difference:.3g})")
