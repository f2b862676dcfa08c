"""Test the calibration stage: what it writes, that it is made once, and what it says in plain words."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.cli.main import main
from distill.config import CalibrationConfig, DataConfig, LabelsConfig
from distill.errors import UserError
from distill.metrics import calibration_error, logit_scaling
from distill.metrics.confidence import Gap
from distill.metrics.temperature import fit_temperature
from distill.stages import calibration as stage
from distill.training.network import load_predictions


@pytest.mark.parametrize("method", ["temperature", "vector", "platt"])
def test_what_is_written(make, teacher, method):
    network, made = make(teacher), make(CalibrationConfig(network=teacher, method=method))
    assert made.problems() == []
    held_out, (logits, labels) = load_predictions(network, "held_out"), load_predictions(network, "test")
    fitted, loaded = logit_scaling.fit(method, *held_out), stage.load_scaling(made)
    assert loaded.method == method
    assert torch.equal(loaded.scale, fitted.scale)
    assert torch.equal(loaded.bias, fitted.bias)
    assert load_file(made.file(stage.SCALING)).keys() == {"scale", "bias"}
    metrics = made.record.metrics
    names = stage.measures(logits, labels)
    expected = {
        f"{split}/{name}{end}" for split in ("held_out", "test") for name in names for end in ("", "_before")
    }
    assert metrics.keys() == {"temperature", *expected}
    assert metrics["temperature"] == pytest.approx(fit_temperature(*held_out))
    assert metrics["test/ece_classwise_before"] == calibration_error.ece_classwise(logits, labels)
    assert metrics["test/ece_adaptive"] == calibration_error.ece_adaptive(fitted.apply(logits), labels)
    assert metrics["held_out/nll"] < metrics["held_out/nll_before"] or method == "platt"
    assert made.record.data == network.record.data


def test_it_is_drawn_and_logged(make, teacher):
    made = make(CalibrationConfig(network=teacher))
    assert made.file(stage.RELIABILITY).read_bytes().startswith(b"\x89PNG")
    log = EventAccumulator(str(made.path / "tb"), size_guidance={"images": 0}).Reload()
    assert log.Tags()["images"] == ["test/reliability"]
    assert log.Tags()["scalars"] == [], "a measure that has one step is no chart"
    assert "calibration/text_summary" in log.Tags()["tensors"]
    line = json.loads((made.path / "metrics.jsonl").read_text())
    assert line["test/ece"] == made.record.metrics["test/ece"]


@pytest.mark.parametrize(
    ("share", "way_out"), [(0.0, r"`data\.held_out=0\.1`"), (1e-4, r"a larger `data\.held_out`")]
)
def test_a_network_without_held_out_images_is_refused_in_a_line(make, teacher, share, way_out):
    network = teacher.replace(data=DataConfig(held_out=share))
    with pytest.raises(UserError, match=rf"data\.held_out = {share}: .* with {way_out}\.") as raised:
        make(CalibrationConfig(network=network))
    assert "\n" not in str(raised.value)


def test_a_teacher_has_no_map(make, teacher):
    with pytest.raises(UserError, match="this is a teacher"):
        stage.load_scaling(make(teacher))


def predict(monkeypatch, factor: float, seed: int = 0) -> None:
    """Networks answer with these logits, calibrated where the factor is 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3_000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    monkeypatch.setattr(stage, "load_predictions", lambda *_: ((factor * logits).float(), labels))


def said(make, config, temperature=None) -> str:
    made = make(CalibrationConfig(network=config))
    return "\n".join(stage.findings(made, make(config), temperature))


def test_over_confident(monkeypatch, make, teacher):
    make(teacher)
    predict(monkeypatch, 3)
    text = said(make, teacher)
    assert "above 1: by its NLL the network is over-confident" in text
    assert "before: over-confident" in text
    assert "after: neither over- nor under-confident" in text


def test_smoothing_left_it_over_softened(monkeypatch, make, teacher):
    config = teacher.with_loss(smoothing=0.2)
    make(config)
    predict(monkeypatch, 0.5)
    text = said(make, config, temperature=2)
    assert "smoothed labels are one reason, a short training another" in text
    assert "over-softened" in text
    assert "before: under-confident" in text
    assert "Divided by T = 2 instead: under-confident" in text
    assert "softens it twice" in text
    assert "still" not in text


def test_a_temperature_that_is_too_high_for_a_calibrated_network(monkeypatch, make, teacher):
    make(teacher)
    predict(monkeypatch, 1)
    assert "too high" in said(make, teacher, temperature=4)
    assert "too high" not in said(make, teacher, temperature=1)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="positive"):
            said(make, teacher, temperature)


def test_under_confident_without_smoothing_is_not_put_down_to_it(monkeypatch, make, teacher):
    make(teacher)
    predict(monkeypatch, 0.5)
    assert "its labels are hard" in said(make, teacher)


def test_under_confident_still(monkeypatch, make, teacher):
    """Held-out labels that are noisier than test labels ask for less confidence than test images bear."""
    network = make(teacher)
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2_000, 4, generator=generator, dtype=torch.float64)
    right = logits.argmax(1)
    noisy = torch.where(torch.rand(2_000, generator=generator) < 0.4, (right + 1) % 4, right)
    monkeypatch.setattr(
        stage, "load_predictions", lambda _, split: (logits, noisy if split == "held_out" else right)
    )
    made = make(CalibrationConfig(network=teacher))
    assert "it is under-confident still" in "\n".join(stage.findings(made, network))


def test_when_every_held_out_image_is_right_its_temperature_says_little(monkeypatch, make, teacher):
    make(teacher)
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(stage, "load_predictions", lambda *_: (logits, logits.argmax(1)))
    assert "says little" in said(make, teacher)


def test_a_short_training_of_hard_labels_is_no_smoothing(monkeypatch, make, teacher):
    penalised = teacher.with_loss(labels=LabelsConfig(confidence_penalty=0.1))
    make(penalised)
    predict(monkeypatch, 0.5)
    assert "its labels are hard" in said(make, penalised)


def test_a_temperature_near_1_is_not_put_down_to_anything(monkeypatch, make, teacher):
    config = teacher.with_loss(smoothing=0.1)
    make(config)
    predict(monkeypatch, 0.99)
    assert "while its mean confidence is about its accuracy" in said(make, config)


def test_wrong_held_out_labels_say_nothing_of_the_network(monkeypatch, make, teacher):
    config = teacher.replace(data=teacher.data.replace(label_noise=0.4)).with_loss(smoothing=0.1)
    make(config)
    predict(monkeypatch, 0.5)
    text = said(make, config)
    assert "Of the held-out labels 40 % are wrong" in text
    assert "over-softened" not in text
    assert "by its NLL" not in text


@pytest.mark.parametrize(
    ("gap", "low", "high", "word"),
    [(0.1, 0.05, 0.15, "under-confident"), (-0.1, -0.15, -0.05, "over-confident"), (0.1, -0.1, 0.3, "neither")],
)
def test_words_follow_the_interval(gap, low, high, word):
    assert stage.in_words(Gap(0.5, 0.5 - gap, gap, low, high)).startswith(word)


def test_the_command_fits_once_and_prints_before_and_after(make, teacher, store, runtime, capsys):
    network = make(teacher)
    call = ["calibrate", str(network.path), "--method", "vector", "--store", str(store.root), "--device", "cpu"]
    main(call)
    first = capsys.readouterr().out
    (path,) = (store.root / "calibrations").iterdir()
    before = (path / "record.json").stat().st_mtime_ns
    main(call)
    assert capsys.readouterr().out == first
    assert (path / "record.json").stat().st_mtime_ns == before
    metrics = store.read(path).record.metrics
    assert f"{metrics['test/nll_before']:.3f} → {metrics['test/nll']:.3f}" in first
    assert math.isfinite(metrics["test/nll"])
    assert "Temperature that held-out images choose" in first
