"""The ResNets of the distillation benchmarks: size, names of parameters, images that fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models import build_model, check_model
from distill.models.resnet import ResNet
from tests.models.layers import norm, parameters, shapes

# Counted in RepDistiller's and mdistiller's classes with 100 classes, whose papers and tables round them.
SIZES = {
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_count_at_100_classes(name: str) -> None:
    model = build_model(ModelConfig(name=name), 100, (3, 32, 32))
    assert parameters(model) == SIZES[name]
    widths = (32, 64, 128, 256) if "x4" in name else (16, 16, 32, 64)
    blocks = (int(name.removeprefix("resnet").removesuffix("x4")) - 2) // 6
    count, channels = (27 + 2) * widths[0], widths[0]
    for out in widths[1:]:
        count += 9 * channels * out + (2 * blocks - 1) * 9 * out * out + 2 * blocks * 2 * out
        count += 0 if out == channels else channels * out + 2 * out  # projection and its norm
        channels = out
    assert count + 100 * channels + 100 == SIZES[name]


def test_a_public_checkpoint_loads_by_its_own_names(tmp_path: Path) -> None:
    """RepDistiller's `resnet8x4` has these names and shapes."""
    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (32, 3, 3, 3), **norm("bn1", 32)}
    for group, (channels, out) in enumerate([(32, 64), (64, 128), (128, 256)], start=1):
        block = f"layer{group}.0"
        expected |= {f"{block}.conv1.weight": (out, channels, 3, 3), f"{block}.conv2.weight": (out, out, 3, 3)}
        expected |= {f"{block}.downsample.0.weight": (out, channels, 1, 1), **norm(f"{block}.downsample.1", out)}
        expected |= {**norm(f"{block}.bn1", out), **norm(f"{block}.bn2", out)}
    expected |= {"fc.weight": (100, 256), "fc.bias": (100,)}
    first, again = (build_model(ModelConfig(name="resnet8x4"), 100, (3, 32, 32)).eval() for _ in range(2))
    assert shapes(first) == expected

    torch.save({"epoch": 240, "model": first.state_dict(), "best_acc": torch.tensor(72.5)}, tmp_path / "best.pth")
    again.load_state_dict(torch.load(tmp_path / "best.pth", weights_only=True)["model"])
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first(images), again(images))


def test_only_groups_that_change_the_channels_or_the_size_project() -> None:
    projecting = {name for name in shapes(ResNet(10, (3, 32, 32), depth=20)) if "downsample.0" in name}
    assert projecting == {"layer2.0.downsample.0.weight", "layer3.0.downsample.0.weight"}


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_1"])
def test_sizes_that_the_pool_reduces_to_one_pixel_fit(name: str) -> None:
    for shape in ((1, 29, 32), (3, 60, 40)):
        check_model(ModelConfig(name=name), 10, shape)
    for shape in ((1, 28, 28), (3, 32, 61), (3, 64, 64)):
        with pytest.raises(UserError, match=rf"{name} can be built .* needs 29 to 60 pixels on each side: resize"):
            check_model(ModelConfig(name=name), 10, shape)


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"depth": 21}, r"6n \+ 2"),
        ({"depth": 2}, r"6n \+ 2"),
        ({"widths": [16, 32]}, "four"),
        ({"widths": [0, 1, 1, 1]}, "four"),
    ],
)
def test_other_networks_of_the_family_are_built_or_refused(kwargs: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_model(ModelConfig(name="resnet20", kwargs=kwargs), 10, (3, 32, 32))
    model = build_model(ModelConfig(name="resnet20", kwargs={"depth": 8}), 10, (3, 32, 32))
    assert {name.split(".")[1] for name in shapes(model) if name.startswith("layer")} == {"0"}
