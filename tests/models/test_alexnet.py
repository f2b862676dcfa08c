"""AlexNet against TensorFlow's definitions and the tutorial."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from distill.models.alexnet import AlexNet, SamePool, local_response_norm
from tests.models.layers import read_by_head


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
    model = AlexNet(10, (3, 32, 32))
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


def test_the_head_reads_activations():
    assert read_by_head(AlexNet(10, (3, 24, 24)), torch.randn(4, 3, 24, 24)).min() >= 0
