"""Test that a cache holds what its teacher says of each view."""

from __future__ import annotations

import pytest
import torch

from distill.cache import LogitCache
from distill.config import AugmentConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.training.network import load_network
from distill.training.predict import predict
from tests.made import make


def test_the_cache_holds_the_teachers_logits_sample_by_sample(cache, store, runtime) -> None:
    made = make(cache, store, runtime)
    opened = LogitCache.open(made.path)
    dataset = load(cache.transfer_set, runtime.data_root)
    teacher = store.find(cache.teacher)
    assert teacher is not None
    model = load_network(teacher)
    expected = predict(model, dataset.train.images, Normaliser(dataset.mean, dataset.std), "cpu")
    index = torch.tensor([5, 0, len(expected) - 1])
    assert opened.logits(index).dtype == torch.float32
    torch.testing.assert_close(opened.logits(index), expected[index], rtol=2e-3, atol=2e-3)
    assert made.record.metrics["rounding_error"] < 0.01
    assert made.record.metrics["transfer/accuracy"] == pytest.approx(
        (expected.argmax(1) == dataset.train.labels).float().mean().item(), abs=1e-3
    )


def test_views_are_cached_one_by_one_and_taken_modulo(cache, store, runtime) -> None:
    views = cache.replace(views=3, augment=AugmentConfig(pad=1))
    opened = LogitCache.open(make(views, store, runtime).path)
    index = torch.arange(4)
    assert not torch.equal(opened.logits(index, 0), opened.logits(index, 1))
    assert torch.equal(opened.logits(index, 4), opened.logits(index, 1))
