"""A trained network, as it is read again."""

from __future__ import annotations

import torch

from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.training.network import load_network, load_predictions
from distill.training.predict import predict
from tests.made import make


def test_stored_weights_give_the_stored_predictions(teacher, store, runtime) -> None:
    made = make(teacher, store, runtime)
    dataset = load(teacher.data, runtime.data_root)
    logits, labels = load_predictions(made, "test")
    assert torch.equal(labels, dataset.test.labels)
    normalise = Normaliser(dataset.mean, dataset.std)
    for named in (made, made.path, str(made.path)):
        again = predict(load_network(named), dataset.test.images, normalise, "cpu")
        torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
