"""The wide ResNets of the distillation benchmarks: size and names of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models import build_model
from distill.models.wide_resnet import WideBlock
from tests.models.layers import norm, parameters, shapes


@pytest.mark.parametrize(
    ("name", "of_ten_classes"),
    [("wrn_16_1", 175_066), ("wrn_40_1", 563_930), ("wrn_16_2", 691_674), ("wrn_40_2", 2_243_546)],
)
def test_parameter_count(name: str, of_ten_classes: int) -> None:
    """The counts with 10 classes are those that independent implementations list."""
    width = 64 * int(name[-1])
    config = ModelConfig(name=name)
    assert parameters(build_model(config, 10, (3, 32, 32))) == of_ten_classes
    assert parameters(build_model(config, 100, (3, 32, 32))) == of_ten_classes + 90 * (width + 1)


def test_names_are_those_of_public_checkpoints() -> None:
    """RepDistiller's `wrn_16_2` has these names and shapes."""
    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (16, 3, 3, 3), **norm("bn1", 128)}
    for group, (channels, out) in enumerate([(16, 32), (32, 64), (64, 128)], start=1):
        first, second = (f"block{group}.layer.{number}" for number in (0, 1))
        expected |= {f"{first}.conv1.weight": (out, channels, 3, 3), f"{first}.conv2.weight": (out, out, 3, 3)}
        expected |= {f"{first}.convShortcut.weight": (out, channels, 1, 1)}
        expected |= {f"{second}.{each}.weight": (out, out, 3, 3) for each in ("conv1", "conv2")}
        expected |= {**norm(f"{first}.bn1", channels), **norm(f"{first}.bn2", out)}
        expected |= {**norm(f"{second}.bn1", out), **norm(f"{second}.bn2", out)}
    expected |= {"fc.weight": (100, 128), "fc.bias": (100,)}
    assert shapes(build_model(ModelConfig(name="wrn_16_2"), 100, (3, 32, 32))) == expected


def test_a_block_is_the_identity_or_a_projection_of_what_is_activated() -> None:
    x = torch.randn(2, 4, 5, 5)
    same, wider = WideBlock(4, 4, 1).eval(), WideBlock(4, 8, 2).eval()
    for block in (same, wider):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)
    assert wider(x).shape == (2, 8, 3, 3)
    assert torch.equal(wider(-x.abs()), torch.zeros(2, 8, 3, 3))


@pytest.mark.parametrize(("kwargs", "says"), [({"depth": 20}, r"6n \+ 4"), ({"width": 0}, "at least 1")])
def test_other_depths_and_widths_are_refused(kwargs: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_model(ModelConfig(name="wrn_40_2", kwargs=kwargs), 10, (3, 32, 32))
