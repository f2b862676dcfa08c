"""Our own networks against the published ones: parameters, padding, normalisation, structure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from distill.models.alexnet import AlexNet, SamePool, alexnet, local_response_norm
from distill.models.cnn import cnn
from distill.models.mlp import mlp
from distill.models.resnet_cifar import PreActResNet, resnet56

CASES = [
    (mlp, (1, 8, 8), {"widths": [16], "dropout": 0.5, "input_dropout": 0.2}),
    (mlp, (3, 5, 7), {"widths": []}),
    (cnn, (1, 8, 8), {"widths": [4, 8], "hidden": 16}),
    (cnn, (1, 28, 28), {"dropout": 0.5}),
    (cnn, (3, 32, 32), {}),
    (alexnet, (3, 24, 24), {}),
    (alexnet, (1, 27, 9), {}),
    (resnet56, (3, 32, 32), {"width": 4, "blocks": 1}),
    (resnet56, (1, 9, 7), {"width": 4, "blocks": 2}),
]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("factory", "shape", "kwargs"), CASES)
def test_logits_are_the_head_on_the_features(factory, shape, kwargs):
    model = factory(7, shape, **kwargs).eval()
    x = torch.randn(2, *shape)
    assert model(x).shape == (2, 7)
    assert model.features(x).shape == (2, model.head.in_features)
    torch.testing.assert_close(model.head(model.features(x)), model(x))


@pytest.mark.parametrize(("factory", "shape", "kwargs"), CASES)
def test_initial_weights_depend_on_the_seed_alone(factory, shape, kwargs):
    first, again, other = (
        (torch.manual_seed(seed), nn.utils.parameters_to_vector(factory(7, shape, **kwargs).parameters()))[1]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_parameter_counts():
    assert parameters(mlp(10, (1, 28, 28))) == 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 12010
    assert parameters(cnn(10, (1, 28, 28))) == 9 * 32 + 64 + 9 * 32 * 64 + 128 + 3136 * 128 + 128 + 1290
    assert parameters(alexnet(10, (3, 32, 32))) == 1_756_426
    assert parameters(alexnet(10, (3, 24, 24))) == 1_068_298


@pytest.mark.parametrize(("width", "blocks"), [(32, 9), (16, 9), (4, 2)])
def test_resnet_parameter_count_in_closed_form(width, blocks):
    count, channels = 27 * 16 + 2 * 16, 16
    for out in (width, 2 * width, 4 * width):
        count += channels * out + 2 * out  # projection and its norm
        count += 2 * channels + 9 * channels * out + 2 * out + 9 * out * out
        count += (blocks - 1) * (4 * out + 18 * out * out)
        channels = out
    count += channels * 10 + 10
    assert parameters(resnet56(10, (3, 32, 32), width=width, blocks=blocks)) == count


def test_layers_without_units_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        mlp(10, (1, 8, 8), widths=[16, 0])
    with pytest.raises(ValueError, match="at least 1"):
        cnn(10, (1, 8, 8), hidden=0)
    with pytest.raises(ValueError, match="at least 1"):
        resnet56(10, (3, 8, 8), blocks=0)
    with pytest.raises(ValueError, match="at least 16 × 16"):
        cnn(10, (1, 8, 8), widths=[4, 4, 4, 4])


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_layout_of_the_images_does_not_matter_to_the_cnn(channels):
    model = cnn(10, (channels, 12, 12), widths=[4, 4], hidden=8).eval()
    x = torch.randn(3, channels, 12, 12)
    expected = model(x)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(model(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)
    assert model.stages[0](x).shape == (3, 4, 12, 12)
    model.train()(x).sum().backward()
    assert all(parameter.grad.is_contiguous() for parameter in model.parameters())


def tf_same_max_pool(x: np.ndarray, size: int = 3, stride: int = 2) -> np.ndarray:
    """TensorFlow's definition of SAME, along the last two axes."""
    for axis in (2, 3):
        n = x.shape[axis]
        out = math.ceil(n / stride)
        padding = max((out - 1) * stride + size - n, 0)
        before = padding // 2
        windows = []
        for i in range(out):
            start = i * stride - before
            inside = range(max(start, 0), min(start + size, n))
            windows.append(np.take(x, list(inside), axis=axis).max(axis=axis))
        x = np.stack(windows, axis=axis)
    return x


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 24), (7, 7), (8, 5), (3, 2), (1, 6)])
def test_pooling_pads_as_tensorflow_does(height, width):
    x = torch.randn(2, 3, height, width) - 5  # negative: padding with zeros would show
    np.testing.assert_array_equal(SamePool()(x).numpy(), tf_same_max_pool(x.numpy()))


def test_pooling_of_an_even_row_by_hand():
    x = torch.tensor([9.0, 1, 2, 3, 4, 5]).expand(1, 1, 6, 6)
    assert SamePool()(x)[0, 0, 0].tolist() == [9, 4, 5]


def tf_lrn(x: np.ndarray, depth_radius: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """`tf.nn.lrn` as its documentation writes it, for [b c h w]."""
    out = np.empty_like(x)
    for d in range(x.shape[1]):
        squares = (x[:, max(d - depth_radius, 0) : d + depth_radius + 1] ** 2).sum(axis=1)
        out[:, d] = x[:, d] / (bias + alpha * squares) ** beta
    return out


@pytest.mark.parametrize(("depth_radius", "bias", "alpha", "beta"), [(4, 1, 0.001 / 9, 0.75), (2, 2, 0.3, 0.5)])
def test_response_norm_is_tensorflows(depth_radius, bias, alpha, beta):
    x = torch.randn(2, 12, 3, 4, dtype=torch.float64) * 30
    ours = local_response_norm(depth_radius, bias, alpha, beta)(x)
    np.testing.assert_allclose(ours.numpy(), tf_lrn(x.numpy(), depth_radius, bias, alpha, beta), rtol=1e-12)


def test_alexnet_has_the_tutorials_initial_weights_and_decay():
    model = alexnet(10, (3, 32, 32))
    assert isinstance(model, AlexNet)
    weights = dict(model.named_parameters())
    for name, std, bias in [
        ("convolutions.0", 0.05, 0.0),
        ("convolutions.4", 0.05, 0.1),
        ("local3", 0.04, 0.1),
        ("local4", 0.04, 0.1),
        ("head", 1 / 192, 0.0),
    ]:
        weight = weights[f"{name}.weight"]
        assert weight.abs().max() <= 2 * std * 1.0001
        assert weight.std().item() == pytest.approx(0.8796 * std, rel=0.05)
        assert (weights[f"{name}.bias"] == bias).all()
    decayed = {name for name in weights if name.endswith("weight")} - model.no_weight_decay()
    assert decayed == {"local3.weight", "local4.weight"}
    assert model.no_weight_decay() <= set(weights)


def test_alexnet_features_are_activations():
    assert alexnet(10, (3, 24, 24)).features(torch.randn(4, 3, 24, 24)).min() >= 0


def test_resnet_is_pre_activation():
    torch.manual_seed(0)
    model = resnet56(10, (3, 16, 16), width=4, blocks=2)
    assert isinstance(model, PreActResNet)
    x = torch.randn(4, 3, 16, 16)
    assert model.features(x).min() < 0, "a final ReLU would make the features positive"
    projected = [block.projection is not None for block in model.blocks]
    assert projected == [True, False] * 3
    block = model.blocks[1]
    nn.init.zeros_(block.conv2.weight)
    h = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(h), h), "the shortcut is the identity"


def test_first_block_projects_the_activated_input():
    block = resnet56(10, (3, 16, 16), width=4, blocks=1).blocks[0].eval()
    nn.init.zeros_(block.conv2.weight)
    h = -torch.rand(2, 16, 5, 5)  # norm is the identity at first, so the activation is zero
    assert torch.equal(block(h), torch.zeros(2, 4, 5, 5))


def test_resnet_sizes_and_norms():
    model = resnet56(10, (3, 32, 32), width=4, blocks=2)
    h, sizes = model.stem(torch.randn(1, 3, 32, 32)), []
    for block in model.blocks:
        h = block(h)
        sizes.append(tuple(h.shape[1:]))
    assert sizes == [(4, 32, 32)] * 2 + [(8, 16, 16)] * 2 + [(16, 8, 8)] * 2
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_resnet_convolutions_have_variance_one_over_fan_in():
    model = resnet56(10, (3, 32, 32), blocks=1)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.1)


def test_gaussian_initial_weights():
    torch.manual_seed(0)
    model = mlp(10, (1, 28, 28), widths=[300, 200], init_std=0.03)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            count = layer.weight.numel()
            # Standard errors of mean and standard deviation of that many draws.
            assert layer.weight.mean().item() == pytest.approx(0, abs=4 * 0.03 / count**0.5)
            assert layer.weight.std().item() == pytest.approx(0.03, abs=4 * 0.03 / (2 * count) ** 0.5)
            assert not layer.bias.any()
    kurtosis = (model.body[1].weight / 0.03).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.1), "1.8 if it were uniform"


def test_initial_weights_are_torchs_unless_asked():
    torch.manual_seed(0)
    weights = [p.clone() for p in mlp(3, (1, 2, 2), widths=[4]).parameters()]
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    assert all(torch.equal(one, other) for one, other in zip(weights, plain.parameters(), strict=True))


def test_initial_weights_need_a_positive_deviation():
    with pytest.raises(ValueError, match="positive"):
        mlp(10, (1, 8, 8), init_std=0.0)
