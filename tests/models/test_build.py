"""Names and arguments of networks: what is built, and what is refused with one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import distill.system.libraries
from distill.config import ModelConfig
from distill.errors import UserError
from distill.models import build_model, check_model
from distill.models.alexnet import AlexNet
from distill.models.build import refuse_larger
from distill.models.cnn import CNN
from distill.models.mlp import MLP
from distill.models.preact_resnet import PreActResNet
from distill.system import trust
from tests.models.layers import parameters, read_by_head


def config(name: str, **kwargs) -> ModelConfig:
    return ModelConfig(name=name, kwargs=kwargs)


class Pair(nn.Linear):
    """Two outputs while it trains."""

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        return (logits, logits) if self.training else logits


def plugin_pair(num_classes, in_shape):
    return Pair(in_shape[0] * in_shape[1] * in_shape[2], num_classes)


def plugin_reads_numbers(num_classes, in_shape, rate=0.1):
    """Cannot be built on the meta device."""
    width = int(torch.tensor([4.0]).item())
    pixels = in_shape[0] * in_shape[1] * in_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, num_classes))


def plugin_breaks(num_classes, in_shape):
    raise KeyError("inside the plug-in")


def plugin_no_module(num_classes, in_shape):
    return "a string"


@pytest.mark.parametrize(
    ("name", "shape", "kwargs"),
    [
        ("mlp", (1, 8, 8), {"widths": [16, 16]}),
        ("cnn", (1, 28, 28), {}),
        ("alexnet", (3, 32, 32), {}),
        ("resnet56_preact", (3, 32, 32), {}),
        ("timm:resnet18", (1, 64, 64), {}),
        ("torchvision:resnet18", (3, 64, 64), {}),
        (plugin_reads_numbers, (1, 8, 8), {"rate": 0.5}),
    ],
)
def test_fitting_networks_pass_and_leave_the_generator_alone(name, shape, kwargs):
    before = torch.get_rng_state()
    check_model(config(name, **kwargs), 7, shape)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "torchvision:mobilenet_v3_small"])
def test_library_networks_are_built_from_the_seed(name):
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        model = build_model(config(name), 7, (3, 64, 64)).eval()
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "kwargs", "field", "says"),
    [
        ("mpl", {}, "model.name", "Close to it: mlp"),
        ("zzz", {}, "model.name", "timm:NAME, torchvision:NAME"),
        ("timm:resnet81", {}, "model.name", "timm:resnet18"),
        ("timm:hf-hub:someone/model", {}, "model.name", "a network that timm knows"),
        ("torchvision:resnet81", {}, "model.name", "torchvision:resnet18"),
        ("torchvision:fcn_resnet50", {}, "model.name", "a classifier"),
        ("no_such_module:f", {}, "model.name", "can be imported"),
        (f"{__name__}:nothing", {}, "model.name", "plugin_pair"),
        ("mlp", {"width": [3]}, "model.kwargs", "widths"),
        ("mlp", {"widths": [0]}, "model.kwargs", "at least 1"),
        ("mlp", {"widths": "wide"}, "model.kwargs", "what mlp can be built from"),
        ("mlp", {"num_classes": 3}, "model.kwargs", "no num_classes"),
        ("timm:resnet18", {"pretrained": True}, "model.kwargs", "Drop pretrained"),
        ("timm:resnet18", {"depht": 3}, "model.kwargs", "depht"),
        ("torchvision:resnet18", {"depht": 3}, "model.kwargs", "depht"),
        (plugin_pair, {"depht": 3}, "model.kwargs", "depht"),
        (plugin_no_module, {}, "model.name", "returned a str"),
    ],
)
def test_unknown_names_and_arguments(name, kwargs, field, says):
    if isinstance(name, str):
        trust.name(name)
    for call in (build_model, check_model):
        with pytest.raises(UserError) as caught:
            call(config(name, **kwargs), 10, (1, 28, 28))
        assert caught.value.field == field
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("torchvision:resnet18", (1, 64, 64), "timm adapt"),
        ("torchvision:alexnet", (3, 32, 32), "images of shape [3, 32, 32]"),
        ("timm:vit_tiny_patch16_224", (3, 32, 32), '"img_size": 32'),
        ("cnn", (1, 3, 3), "at least 4 × 4 pixels"),
        (plugin_pair, (1, 4, 4), "In training mode it gives tuple"),
    ],
)
def test_networks_that_do_not_take_the_images(name, shape, says):
    with pytest.raises(UserError) as caught:
        check_model(config(name), 10, shape)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_number_of_logits_names_both(monkeypatch):
    pair = config(plugin_pair)
    monkeypatch.setattr(sys.modules[__name__], "plugin_pair", lambda num_classes, in_shape: build_three())
    with pytest.raises(UserError) as caught:
        check_model(pair, 10, (1, 4, 4))
    assert "[2, 10]" in str(caught.value)
    assert "[2, 3]" in str(caught.value)


def build_three() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def test_a_plugin_that_breaks_is_one_line_with_its_cause():
    with pytest.raises(UserError, match="inside the plug-in") as caught:
        check_model(config(plugin_breaks), 10, (1, 4, 4))
    assert isinstance(caught.value.__cause__, KeyError)


def test_builds_that_do_not_match_say_what_to_install(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(distill.system.libraries.importlib, "import_module", fail)
    with pytest.raises(UserError, match="pip install") as caught:
        build_model(config("torchvision:resnet18"), 10, (3, 64, 64))
    assert caught.value.field == "torchvision"


def test_our_own_networks_need_no_library():
    code = "import distill.models, distill.training.optim, sys"
    code += "; sys.exit(bool({'timm', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class PerPosition(nn.Module):
    """Logits at each of `positions`."""

    def __init__(self, num_classes: int, positions: int):
        super().__init__()
        self.positions, self.bias = positions, nn.Parameter(torch.zeros(num_classes))

    def forward(self, x):
        return self.bias.expand(len(x), self.positions, -1)


def plugin_per_position(num_classes, in_shape, positions=7):
    return PerPosition(num_classes, positions)


def test_a_network_answers_for_each_label() -> None:
    name = plugin_per_position
    check_model(config(name), 3, (1, 2, 7), (7,))
    with pytest.raises(UserError, match=r"3 logits per position: \[2, 7, 3\] for two images\. .* \[2, 5, 3\]"):
        check_model(config(name, positions=5), 3, (1, 2, 7), (7,))
    with pytest.raises(UserError, match=r"3 logits per image: \[2, 3\] for two images\. .* \[2, 7, 3\]"):
        check_model(config(name), 3, (1, 2, 7))


def plugin_of_buffers(num_classes, in_shape):
    net = nn.Linear(1, 1)
    net.register_buffer("kept", torch.zeros(1000))
    net.register_buffer("made", torch.zeros(1000), persistent=False)
    return net


class Odd(nn.Linear):
    """Weights that a type describes, and logits that a function makes of them."""

    def __init__(self, pixels, num_classes, weights, change):
        super().__init__(pixels, num_classes, dtype=weights)
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x.flatten(1).to(self.weight.dtype)))


def plugin_odd(num_classes, in_shape, kind):
    pixels = in_shape[0] * in_shape[1] * in_shape[2]
    if kind == "parts in half precision":
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 4), nn.Linear(4, num_classes).half())
    if kind == "whole numbers":
        net = nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))
        net.register_parameter("steps", nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False))
        return net
    if kind == "no parameter":
        return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(num_classes))
    weights = {"half inside": torch.float16, "complex": torch.complex64, "complex inside": torch.complex64}
    changes = {"detached": torch.detach, "rounded": torch.Tensor.long, "complex inside": torch.real}
    net = Odd(pixels, num_classes, weights.get(kind), changes.get(kind, nn.Identity()))
    return net.requires_grad_(False) if kind == "frozen" else net


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no parameter", "0 of its parameters take a gradient"),
        ("frozen", "0 of its parameters take a gradient"),
        ("detached", "2 of its parameters take a gradient"),
        ("rounded", "logits of torch.int64"),
        ("complex", "logits of torch.complex64"),
        ("parts in half precision", "Leave its weights in float32: `precision`"),
        ("half inside", None),
        ("complex inside", None),
        ("whole numbers", None),
    ],
)
def test_networks_that_training_cannot_change(kind, says):
    odd = config(plugin_odd, kind=kind)
    if says is None:
        check_model(odd, 10, (1, 4, 4))
        return
    with pytest.raises(UserError) as caught:
        check_model(odd, 10, (1, 4, 4))
    assert caught.value.field == "model.name"
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_buffers_need_a_file_of_their_size() -> None:
    network = config(plugin_of_buffers)
    refuse_larger(network, 2, (1, 4, 4), 4008)
    with pytest.raises(UserError, match="4,008 bytes"):
        refuse_larger(network, 2, (1, 4, 4), 4007)


CASES = [
    (MLP, (1, 8, 8), {"widths": [16], "dropout": 0.5, "input_dropout": 0.2}),
    (MLP, (3, 5, 7), {"widths": []}),
    (CNN, (1, 8, 8), {"widths": [4, 8], "hidden": 16}),
    (CNN, (1, 28, 28), {"dropout": 0.5}),
    (CNN, (3, 32, 32), {}),
    (AlexNet, (3, 24, 24), {}),
    (AlexNet, (1, 27, 9), {}),
    (PreActResNet, (3, 32, 32), {"width": 4, "blocks": 1}),
    (PreActResNet, (1, 9, 7), {"width": 4, "blocks": 2}),
]


@pytest.mark.parametrize(("factory", "shape", "kwargs"), CASES)
def test_logits_are_the_head_on_the_penultimate_activations(factory, shape, kwargs):
    model = factory(7, shape, **kwargs).eval()
    x = torch.randn(2, *shape)
    penultimate = read_by_head(model, x)
    assert model(x).shape == (2, 7)
    assert penultimate.shape == (2, model.head.in_features)
    torch.testing.assert_close(model.head(penultimate), model(x))


@pytest.mark.parametrize(("factory", "shape", "kwargs"), CASES)
def test_initial_weights_depend_on_the_seed_alone(factory, shape, kwargs):
    first, again, other = (
        (torch.manual_seed(seed), nn.utils.parameters_to_vector(factory(7, shape, **kwargs).parameters()))[1]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_parameter_counts():
    assert parameters(MLP(10, (1, 28, 28))) == 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 12010
    assert parameters(CNN(10, (1, 28, 28))) == 9 * 32 + 64 + 9 * 32 * 64 + 128 + 3136 * 128 + 128 + 1290
    assert parameters(AlexNet(10, (3, 32, 32))) == 1_756_426
    assert parameters(AlexNet(10, (3, 24, 24))) == 1_068_298


def test_layers_without_units_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        MLP(10, (1, 8, 8), widths=[16, 0])
    with pytest.raises(ValueError, match="at least 1"):
        CNN(10, (1, 8, 8), hidden=0)
    with pytest.raises(ValueError, match="at least 1"):
        PreActResNet(10, (3, 8, 8), blocks=0)
    with pytest.raises(ValueError, match="at least 16 × 16"):
        CNN(10, (1, 8, 8), widths=[4, 4, 4, 4])
