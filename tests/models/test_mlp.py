"""Initial weights of the fully connected network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.models.mlp import MLP


def test_gaussian_initial_weights():
    torch.manual_seed(0)
    model = MLP(10, (1, 28, 28), widths=[300, 200], init_std=0.03)
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
    weights = [p.clone() for p in MLP(3, (1, 2, 2), widths=[4]).parameters()]
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    assert all(torch.equal(one, other) for one, other in zip(weights, plain.parameters(), strict=True))


def test_initial_weights_need_a_positive_deviation():
    with pytest.raises(ValueError, match="positive"):
        MLP(10, (1, 8, 8), init_std=0.0)
