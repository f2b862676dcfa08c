"""The pre-activation residual network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.models.preact_resnet import PreActResNet
from tests.models.layers import parameters, read_by_head


@pytest.mark.parametrize(("width", "blocks"), [(32, 9), (16, 9), (4, 2)])
def test_resnet_parameter_count_in_closed_form(width, blocks):
    count, channels = 27 * 16 + 2 * 16, 16
    for out in (width, 2 * width, 4 * width):
        count += channels * out + 2 * out  # projection and its norm
        count += 2 * channels + 9 * channels * out + 2 * out + 9 * out * out
        count += (blocks - 1) * (4 * out + 18 * out * out)
        channels = out
    count += channels * 10 + 10
    assert parameters(PreActResNet(10, (3, 32, 32), width=width, blocks=blocks)) == count


def test_resnet_is_pre_activation():
    torch.manual_seed(0)
    model = PreActResNet(10, (3, 16, 16), width=4, blocks=2)
    x = torch.randn(4, 3, 16, 16)
    assert read_by_head(model, x).min() < 0, "a final ReLU would make them positive"
    projected = [block.projection is not None for block in model.blocks]
    assert projected == [True, False] * 3
    block = model.blocks[1]
    nn.init.zeros_(block.conv2.weight)
    h = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(h), h), "the shortcut is the identity"


def test_first_block_projects_the_activated_input():
    block = PreActResNet(10, (3, 16, 16), width=4, blocks=1).blocks[0].eval()
    nn.init.zeros_(block.conv2.weight)
    h = -torch.rand(2, 16, 5, 5)  # norm is the identity at first, so the activation is zero
    assert torch.equal(block(h), torch.zeros(2, 4, 5, 5))


def test_resnet_sizes_and_norms():
    model = PreActResNet(10, (3, 32, 32), width=4, blocks=2)
    h, sizes = model.stem(torch.randn(1, 3, 32, 32)), []
    for block in model.blocks:
        h = block(h)
        sizes.append(tuple(h.shape[1:]))
    assert sizes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_resnet_convolutions_have_variance_one_over_fan_in():
    model = PreActResNet(10, (3, 32, 32), blocks=1)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.1)
