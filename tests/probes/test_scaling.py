"""Maps of logits: fitted on held-out predictions, judged on the test set, for each method."""

import pytest
import torch

from distill.config import DataConfig, ScalingProbe
from distill.errors import UserError
from distill.metrics import accuracy, calibration_error, logit_scaling
from distill.metrics.temperature import fit_temperature
from distill.probes import probe, probe_measures
from distill.training.network import load_predictions


def test_what_is_measured_of_a_network(trained, runtime, tmp_path):
    network = trained()
    found = probe(ScalingProbe(), network, runtime, tmp_path)
    assert found.values.keys() == {measure.name for measure in probe_measures("scaling")}
    held_out, (logits, labels) = load_predictions(network, "held_out"), load_predictions(network, "test")
    assert found.values["temperature_fitted"] == pytest.approx(fit_temperature(*held_out))
    for method in ("temperature", "vector", "platt"):
        after = logit_scaling.fit(method, *held_out).apply(logits)
        expected = {
            "ece": calibration_error.ece(after, labels),
            "ece_classwise": calibration_error.ece_classwise(after, labels),
            "nll": accuracy.nll(after, labels),
            "brier": accuracy.brier(after, labels),
            "accuracy": accuracy.accuracy(after, labels),
        }
        for name, value in expected.items():
            assert found.values[f"{method}_{name}"] == pytest.approx(value)
    assert found.values["temperature_accuracy"] == accuracy.accuracy(logits, labels)


def test_only_what_is_asked_for(trained, runtime, tmp_path):
    found = probe(ScalingProbe(methods=("platt",), bins=3), trained(), runtime, tmp_path)
    assert {name.partition("_")[0] for name in found.values} == {"platt"}


def test_the_test_set_is_not_fitted(trained, runtime, tmp_path, monkeypatch):
    """With other test labels the fitted maps, and so the test logits, are the same."""
    network = trained()
    seen = []
    monkeypatch.setattr(
        "distill.probes.scaling.logit_scaling.fit",
        lambda method, logits, labels: seen.append(labels) or logit_scaling.identity(),
    )
    probe(ScalingProbe(methods=("vector",)), network, runtime, tmp_path)
    assert [labels.tolist() for labels in seen] == [load_predictions(network, "held_out")[1].tolist()]
    assert not torch.equal(seen[0], load_predictions(network, "test")[1])


def test_without_held_out_images_there_is_no_map(trained, teacher, runtime, tmp_path):
    network = trained(teacher.replace(data=DataConfig(held_out=0)))
    with pytest.raises(UserError, match=r"data\.held_out = 0.*again with `data\.held_out=0\.1`") as raised:
        probe(ScalingProbe(), network, runtime, tmp_path)
    assert "\n" not in str(raised.value)
