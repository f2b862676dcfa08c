"""The list of networks: each is built from it, and help and refusal name all of them."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from distill.config import NETWORKS, ModelConfig, ScheduleConfig
from distill.config.network import Network
from distill.errors import UserError
from distill.models import build_model
from distill.models.mlp import MLP
from distill.system.references import referenced

SHAPES = {"transformer": (1, 2, 5)}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_each_names_a_function_of_classes_and_shape(network: Network) -> None:
    parameters = inspect.signature(referenced(network.build)).parameters.values()
    assert [each.name for each in parameters][:2] == ["num_classes", "in_shape"]
    assert all(each.default is not inspect.Parameter.empty for each in list(parameters)[2:])


@pytest.mark.parametrize("name", NETWORKS)
def test_each_is_built_by_its_name(name: str) -> None:
    shape = SHAPES.get(name, (3, 32, 32))
    model = build_model(ModelConfig(name=name), 7, shape).eval()
    assert isinstance(model, nn.Module)
    assert model(torch.zeros(2, *shape)).shape[-1] == 7


def test_help_and_refusal_name_all() -> None:
    helped = str(ModelConfig.model_fields["name"].description)
    with pytest.raises(UserError) as refused:
        build_model(ModelConfig(name="resnet65"), 10, (3, 32, 32))
    for name in [*NETWORKS, "timm:NAME", "torchvision:NAME", "package.module:function"]:
        assert name in helped
        assert name in refused.value.args[2]
    assert all(network.published in helped for network in NETWORKS.values())
    assert "Close to it: resnet56" in str(refused.value)


def test_one_line_adds_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "toy", Network("toy", "distill.models.mlp:MLP", "nowhere"))
    assert isinstance(build_model(ModelConfig(name="toy", kwargs={"widths": [4]}), 3, (1, 2, 2)), MLP)


def test_the_number_of_parts_divides_the_batch() -> None:
    with pytest.raises(UserError, match=r"schedule\.parts = 3: expected a divisor of the batch size, 64"):
        ScheduleConfig(batch_size=64, parts=3)
