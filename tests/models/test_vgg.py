"""The VGG networks of the distillation benchmarks: size, names of parameters, images that fit."""

from __future__ import annotations

import pytest
import torch

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models import build_model, check_model
from tests.models.layers import norm, parameters, shapes

WIDTHS = (64, 128, 256, 512, 512)


@pytest.mark.parametrize(("name", "per_block", "size"), [("vgg8", 1, 3_965_028), ("vgg13", 2, 9_462_180)])
def test_parameter_count_at_100_classes(name: str, per_block: int, size: int) -> None:
    model = build_model(ModelConfig(name=name), 100, (3, 32, 32))
    count, channels = 0, 3
    for out in WIDTHS:
        count += (9 * channels + 3) * out + (per_block - 1) * (9 * out + 3) * out  # with biases and norms
        channels = out
    assert parameters(model) == count + 513 * 100 == size


def test_names_are_those_of_public_checkpoints() -> None:
    """RepDistiller's `vgg8` has these names and shapes; in its `vgg13`, a block's second layer has number 3."""
    expected: dict[str, tuple[int, ...]] = {"classifier.weight": (100, 512), "classifier.bias": (100,)}
    for block, (channels, out) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
        expected |= {f"block{block}.0.weight": (out, channels, 3, 3), f"block{block}.0.bias": (out,)}
        expected |= norm(f"block{block}.1", out)
    assert shapes(build_model(ModelConfig(name="vgg8"), 100, (3, 32, 32))) == expected
    deeper = shapes(build_model(ModelConfig(name="vgg13"), 100, (3, 32, 32)))
    assert {name: shape for name, shape in deeper.items() if name.split(".")[1] not in "34"} == expected
    assert deeper["block4.3.weight"] == (512, 512, 3, 3)


@pytest.mark.parametrize(("side", "left"), [(8, 1), (32, 4), (64, 4), (65, 8)])
def test_images_64_pixels_high_are_halved_once_more(side: int, left: int) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(name="vgg8"), 10, (3, side, side)).eval()
        sizes: list[int] = []
        model.get_submodule("block4").register_forward_hook(lambda _, __, output: sizes.append(output.shape[-1]))
        assert model(torch.zeros(1, 3, side, side)).shape == (1, 10)
    assert sizes == [left]


@pytest.mark.parametrize("shape", [(3, 7, 32), (3, 64, 8)])
def test_small_images_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=r"it needs (8|16) or more pixels on each side"):
        check_model(ModelConfig(name="vgg8"), 10, shape)
    with pytest.raises(UserError, match="five numbers"):
        build_model(ModelConfig(name="vgg8", kwargs={"convolutions": [1]}), 10, (3, 32, 32))
