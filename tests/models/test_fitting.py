"""Weights find their network by shape and name, and one line says what does not fit."""

from __future__ import annotations

import pytest
import torch

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models import build_model
from distill.models.fitting import fit_weights

MLP = ModelConfig(name="mlp", kwargs={"widths": [8]})


def weights(config: ModelConfig = MLP, outputs: int = 10, shape: tuple[int, int, int] = (1, 4, 4)):
    return build_model(config, outputs, shape).state_dict()


def test_outputs_and_channels_are_found_in_the_weights() -> None:
    fitting = fit_weights(weights(outputs=7), MLP, [10], (1, 4, 4), "f")
    assert (fitting.outputs, fitting.channels) == (7, 1)
    assert fit_weights(weights(shape=(3, 4, 4)), MLP, [10], (1, 4, 4), "f").channels == 3


def test_torchs_generator_is_left_alone() -> None:
    given = weights()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    fit_weights(given, MLP, [10], (1, 4, 4), "f")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda given: given.pop(next(iter(given))), r"1 missing: "),
        (
            lambda given: given.update({f"more{i}": torch.zeros(1) for i in range(5)}),
            r"5 unexpected: more0, more1, more2, …",
        ),
        (
            lambda given: given.update({next(iter(given)): torch.zeros(9, 16)}),
            r"1 of another shape: .* is \[9, 16\], not \[8, 16\]",
        ),
        (lambda given: given[next(iter(given))].fill_(torch.inf), r"NaN or infinity in "),
    ],
)
def test_what_does_not_fit_is_named_and_counted(change, told: str) -> None:
    given = weights()
    change(given)
    with pytest.raises(UserError, match=told) as error:
        fit_weights(given, MLP, [10], (1, 4, 4), "f")
    assert "\n" not in str(error.value)


def test_counters_that_old_checkpoints_lack_and_tied_weights_are_no_fault() -> None:
    net = ModelConfig(name="timm:test_resnet")
    given = {name: value for name, value in weights(net).items() if "num_batches" not in name}
    assert fit_weights(given, net, [10], (1, 4, 4), "f").outputs == 10
    half = {name: value.half() for name, value in given.items()}
    loaded = fit_weights(half, net, [10], (1, 4, 4), "f").model.state_dict()
    assert all(value.dtype == torch.float32 for name, value in loaded.items() if "num_batches" not in name)


def test_names_that_timm_itself_translates_are_taken() -> None:
    net = ModelConfig(name="timm:convnext_atto", kwargs={"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]})
    theirs = weights(net, shape=(3, 32, 32))
    body = {f"visual.trunk.{name}": each for name, each in theirs.items() if "head.fc" not in name}
    head = {"visual.head.proj.weight": theirs["head.fc.weight"]}
    loaded = fit_weights(body | head, net, [10], (3, 32, 32), "f").model.state_dict()
    assert all(torch.equal(loaded[name], each) for name, each in theirs.items() if name != "head.fc.bias")
