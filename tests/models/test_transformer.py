"""The Transformer sees what it may see, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distill.config import ModelConfig
from distill.models.build import check_model
from distill.models.transformer import Transformer
from tests.models.layers import read_by_head

SHAPE = (1, 2, 7)


@pytest.fixture
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(11, SHAPE, width=16, layers=2, heads=2).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.tensor([[[[3, 4, 5, 6, 0, 0, 0], [1, 7, 8, 9, 10, 0, 0]]]]).float()


def test_logits_are_the_head_on_the_penultimate_activations(model: Transformer, x: torch.Tensor):
    penultimate = read_by_head(model, x)
    assert model(x).shape == (1, 7, 11)
    assert penultimate.shape == (1, 7, 16)
    torch.testing.assert_close(model.head(penultimate), model(x))


def test_no_position_sees_a_later_one(model: Transformer, x: torch.Tensor):
    changed = x.clone()
    changed[..., 1, 4] = 2
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4] - after[:, 4]).abs().max() > 1e-3


def test_padding_of_the_source_does_not_matter_and_its_words_do(model: Transformer, x: torch.Tensor):
    source, decoder = x[:, 0, 0].long(), x[:, 0, 1].long()
    short = model.decode(*model.encode(source[:, :4]), decoder)
    torch.testing.assert_close(model.head(short), model(x))
    for place in range(4):
        changed = x.clone()
        changed[..., 0, place] = 9
        assert (model(changed) - model(x)).abs().max() > 1e-3, f"source word {place}"


def test_the_order_of_words_matters(model: Transformer, x: torch.Tensor):
    swapped = x[..., [1, 0, 2, 3, 4, 5, 6]]
    for row in (0, 1):
        changed = x.clone()
        changed[:, :, row] = swapped[:, :, row]
        assert (model(changed)[:, -1] - model(x)[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("training", [False, True])
def test_empty_rows_and_other_rows_of_the_batch(model: Transformer, x: torch.Tensor, training: bool):
    batch = torch.cat([torch.zeros_like(x), x])
    logits = model.train(training)(batch)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if not training:
        torch.testing.assert_close(logits[1:], model(x))


def test_both_paths_of_torch_agree(model: Transformer, x: torch.Tensor):
    with torch.inference_mode():
        fast = model(x)
    torch.testing.assert_close(fast.clone(), model(x).detach(), atol=1e-5, rtol=1e-4)


def test_it_fits_the_data_set_and_is_checked_without_memory():
    check_model(ModelConfig(name="transformer"), 190, (1, 2, 13), (13,))


def test_its_layers_begin_with_weights_of_their_own():
    first, again, other = (
        (torch.manual_seed(seed), nn.utils.parameters_to_vector(Transformer(7, SHAPE).parameters()))[1]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    network = Transformer(7, SHAPE)
    weights = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features > 7]
    pairs = [(a, b) for a in weights for b in weights if a is not b and a.weight.shape == b.weight.shape]
    assert pairs
    assert not any(torch.equal(a.weight, b.weight) for a, b in pairs)


def test_parameter_count_in_closed_form():
    width, layers, classes = 16, 3, 11
    attention = 4 * (width * width + width)
    feed_forward = 4 * width * width + 3 * width
    norm = 2 * width
    encoder = layers * (attention + feed_forward + 2 * norm) + norm
    decoder = layers * (2 * attention + feed_forward + 3 * norm) + norm
    embeddings = (256 + classes + 2 * SHAPE[2]) * width
    total = sum(p.numel() for p in Transformer(classes, SHAPE, width=width, layers=layers).parameters())
    assert total == embeddings + encoder + decoder + classes * (width + 1)


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((1, 8, 8), {}, "rows of source and target ids"),
        ((3, 2, 8), {}, "rows of source and target ids"),
        (SHAPE, {"width": 30}, "heads must divide"),
        (SHAPE, {"layers": 0}, "0 layers"),
    ],
)
def test_what_it_cannot_be_built_from_is_refused(shape, kwargs, message):
    with pytest.raises(ValueError, match=message):
        Transformer(10, shape, **kwargs)
