"""Test caches of several teachers."""

from __future__ import annotations

import pytest
import torch

from distill.audit.replay import replay
from distill.cache import LogitCache
from distill.config import CacheConfig, EnsembleConfig
from distill.data.normaliser import Normaliser
from distill.training.network import load_network
from distill.training.predict import predict
from tests.made import make


@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_an_ensemble_is_the_mean_of_its_members(teacher, store, runtime, dataset, mean) -> None:
    members = (teacher, teacher.replace(seed=1))
    config = CacheConfig(
        teacher=EnsembleConfig(members=members, mean=mean), transfer_set=teacher.data, dtype="float32"
    )
    # One process: these nets take less time than to start one.
    opened = LogitCache.open(make(config, store, runtime.model_copy(update={"jobs": 1})).path)
    normalise = Normaliser(dataset.mean, dataset.std)
    answers = [
        predict(load_network(store.find(t)), dataset.train.images, normalise, "cpu").double() for t in members
    ]
    if mean == "probabilities":
        expected = torch.stack([answer.softmax(1) for answer in answers]).mean(0)
    else:
        expected = torch.stack(answers).mean(0).softmax(1)
    found = opened.logits(torch.arange(len(opened))).double().softmax(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert len(opened.manifest.teachers) == 2
    assert all(finding.ok for finding in replay(store.find(config), store, runtime, 50))
