"""Temperature scaling of stored predictions: fitted on held-out images, judged on the test set."""

import math
from itertools import chain

import pytest
import torch

from distill.config import DataConfig, TemperaturesProbe
from distill.errors import UserError
from distill.metrics import accuracy, calibration_error
from distill.metrics.temperature import fit_temperature
from distill.probes import probe
from distill.training.network import load_predictions

GRID = TemperaturesProbe(temperatures=(0.5, 1.0, 2.0, 4.0))
VALUES = {"scaled_temperature", "scaled_ece", "scaled_nll", "lowest_nll"}


def test_what_is_measured_of_a_network(trained, runtime, tmp_path):
    network = trained()
    found = probe(GRID, network, runtime, tmp_path)
    assert found.values.keys() == VALUES
    fitted = found.values["scaled_temperature"]
    assert fitted == fit_temperature(*load_predictions(network, "held_out"))
    assert fitted != fit_temperature(*load_predictions(network, "test"))

    logits, labels = load_predictions(network, "test")
    logits = logits.double()
    assert found.curves["temperatures"] == [0.5, 1, 2, 4]
    nll = [accuracy.nll(logits / t, labels) for t in GRID.temperatures]
    assert found.curves["nll_by_temperature"] == pytest.approx(nll)
    ece = [calibration_error.ece(logits / t, labels) for t in GRID.temperatures]
    assert found.curves["ece_by_temperature"] == pytest.approx(ece)
    assert found.values["scaled_nll"] == pytest.approx(accuracy.nll(logits / fitted, labels))
    assert found.values["scaled_ece"] == pytest.approx(calibration_error.ece(logits / fitted, labels))
    assert found.values["lowest_nll"] == pytest.approx(min(nll))

    confidence, right, count = (
        found.curves[f"scaled_reliability_{part}"] for part in ("confidence", "accuracy", "count")
    )
    assert sum(count) == len(labels)
    total = sum(many * share for many, share in zip(count, right, strict=True))
    assert total / len(labels) == pytest.approx(accuracy.accuracy(logits, labels))
    gaps = (many * abs(a - c) for many, a, c in zip(count, right, confidence, strict=True))
    assert sum(gaps) / len(labels) == pytest.approx(found.values["scaled_ece"])


def test_all_of_it_is_finite_even_for_extreme_logits(monkeypatch, runtime, tmp_path):
    logits = 1e4 * torch.eye(4)
    labels = torch.tensor([0, 1, 2, 0])
    monkeypatch.setattr("distill.probes.temperatures.load_predictions", lambda *_: (logits, labels))
    found = probe(TemperaturesProbe(temperatures=(0.01, 100.0)), None, runtime, tmp_path)  # type: ignore[arg-type]
    assert all(map(math.isfinite, [*found.values.values(), *chain(*found.curves.values())]))


def test_without_held_out_images_there_is_no_temperature(trained, teacher, runtime, tmp_path):
    network = trained(teacher.replace(data=DataConfig(held_out=0)))
    with pytest.raises(UserError, match=r"data\.held_out = 0.*again with `data\.held_out=0\.1`") as raised:
        probe(GRID, network, runtime, tmp_path)
    assert "\n" not in str(raised.value)
