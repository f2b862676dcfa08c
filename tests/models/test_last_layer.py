"""Penultimate activations of every kind of network: with the templates they give its logits."""

import pytest
import torch
from torch import nn

from distill.config import NETWORKS, ModelConfig
from distill.errors import UserError
from distill.models import build_model
from distill.models.last_layer import last_linear, penultimate, templates, with_one
from tests.models.layers import read_by_head

CLASSES = 7
SMALL = {"widths": [CLASSES, CLASSES]}  # hidden layers as wide as the head


def net(num_classes, in_shape):
    """A plug-in with a head without bias, and one that is used in training only."""
    return _TwoHeads(num_classes, in_shape)


class _TwoHeads(nn.Module):
    def __init__(self, num_classes, in_shape):
        super().__init__()
        channels, height, width = in_shape
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 9), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(9, num_classes, bias=False)
        self.auxiliary = nn.Linear(9, num_classes)

    def forward(self, x):
        features = self.body(x)
        logits, auxiliary = self.head(features), self.auxiliary(features)
        return logits + auxiliary if self.training else logits


def normalise(images):
    return images.float() / 255 - 0.5


def images_of(shape, n=5):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (ModelConfig(name="mlp", kwargs=SMALL), (1, 8, 8)),
        (ModelConfig(name="mlp", kwargs={"widths": []}), (1, 8, 8)),
        (ModelConfig(name="cnn", kwargs={"dropout": 0.5}), (1, 8, 8)),
        (ModelConfig(name="alexnet"), (3, 16, 16)),
        (ModelConfig(name="resnet56_preact", kwargs={"width": 4, "blocks": 1}), (3, 16, 16)),
        (ModelConfig(name="timm:resnet10t"), (1, 32, 32)),
        (ModelConfig(name="timm:test_vit"), (3, 160, 160)),
        (ModelConfig(name="torchvision:mobilenet_v3_small"), (3, 32, 32)),
        (ModelConfig(name=net), (1, 8, 8)),
    ],
    ids=lambda value: value.name if isinstance(value, ModelConfig) else "",
)
def test_activations_times_templates_are_the_logits(config, shape):
    torch.manual_seed(0)
    model = build_model(config, CLASSES, shape).train()
    with torch.no_grad():
        for parameter in model.parameters():  # a head that is 0 at first would hide which layer it is
            parameter += 0.02 * torch.randn_like(parameter)
    images = images_of(shape)
    head = last_linear(model.eval(), normalise(images[:2]), CLASSES)
    model.train()
    activations = penultimate(model, head, images.split(2), normalise, "cpu")
    assert model.training, "the mode is restored"
    assert activations.shape == (len(images), head.in_features)
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        logits = torch.cat([model.eval()(normalise(part)) for part in images.split(2)])
        if config.name in NETWORKS:
            read = torch.cat([read_by_head(model, normalise(part)) for part in images.split(2)])
            torch.testing.assert_close(activations, read, rtol=0, atol=0)
    torch.testing.assert_close(with_one(activations) @ templates(head).T, logits, rtol=1e-4, atol=1e-5)


def test_a_head_without_bias_has_a_bias_of_zero():
    head = nn.Linear(4, 3, bias=False)
    assert templates(head).shape == (3, 5)
    assert templates(head)[:, 4].tolist() == [0, 0, 0]
    assert templates(nn.Linear(4, 3))[:, 4].ne(0).any()


class _MeanOfTwo(nn.Module):
    """Like a distilled transformer in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return (self.one(x.flatten(1)) + self.two(x.flatten(1))) / 2


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), _MeanOfTwo()],
    ids=["convolution", "mean of two heads"],
)
def test_a_network_without_templates_is_refused(model):
    with pytest.raises(UserError, match=r"3 logits are the output of a torch.nn.Linear") as caught:
        last_linear(model.eval(), torch.rand(2, 1, 2, 2), 3)
    assert caught.value.field == "model"
    assert not any(module._forward_hooks for module in model.modules())


def test_the_last_use_of_a_layer_counts():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    model = Twice().eval()
    assert last_linear(model, torch.rand(2, 3), 3) is model.layer
    images = torch.randint(0, 256, (5, 3), dtype=torch.uint8)
    activations = penultimate(model, model.layer, images.split(2), normalise, "cpu")
    torch.testing.assert_close(activations, torch.relu(model.layer(normalise(images))).detach())
