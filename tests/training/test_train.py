"""A training from its config: seeds, precision, and what it logs."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from distill.config import DataConfig, ModelConfig
from distill.errors import UserError
from distill.pipeline.run import run_stage
from distill.store.store import ArtifactStore
from distill.training.network import load_predictions
from tests.made import assert_same_bits, make
from tests.models.test_build import plugin_odd


def test_teachers_that_differ_in_smoothing_start_alike(teacher, store, runtime, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        "distill.training.train.fit", lambda model, loader, *_, **__: seen.append((model, loader)) or model
    )
    for smoothing in (0.0, 0.1):
        run_stage(teacher.with_loss(smoothing=smoothing), store, runtime)
    (one, batches), (other, same_batches) = seen
    for parameter, twin in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, twin)
    for batch, twin in zip(batches.epoch(1), same_batches.epoch(1), strict=True):
        assert torch.equal(batch.images, twin.images)
        assert torch.equal(batch.index, twin.index)


def test_a_left_out_class_is_never_seen(student, store, runtime, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("distill.training.train.fit", lambda model, loader, *_, **__: seen.append(loader) or model)
    make(student.cache, store, runtime)
    run_stage(student.replace(exclude_classes=(3, 5)), store, runtime)
    labels = torch.cat([batch.labels for batch in seen[-1].epoch(0)])
    assert sorted(set(labels.tolist())) == [0, 1, 2, 4, 6, 7, 8, 9]
    with pytest.raises(UserError, match="exclude_classes"):
        run_stage(student.replace(exclude_classes=(10,)), store, runtime)


def test_the_numbers_do_not_depend_on_what_ran_before(teacher, store, runtime, tmp_path) -> None:
    torch.manual_seed(123)
    one = make(teacher, store, runtime)
    torch.randn(7)
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    assert_same_bits(one, make(teacher, elsewhere, runtime))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_trains_on_the_cpu(teacher, store, runtime, precision: str) -> None:
    made = make(teacher.replace(precision=precision), store, runtime)
    assert made.record.metrics["test/accuracy"] > 0.3


def complex_inside(num_classes, in_shape):
    return plugin_odd(num_classes, in_shape, "complex inside")


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
def test_weights_that_float16_cannot_scale(teacher, store, runtime) -> None:
    odd = teacher.replace(model=ModelConfig(name=complex_inside))
    with pytest.raises(UserError, match=r"precision = 'float16': .*torch\.complex64\. Set `precision=bfloat16`"):
        make(odd.replace(precision="float16"), store, runtime)
    make(odd.replace(precision="bfloat16"), store, runtime)


ONE_BY_ONE = {"a batch": ({"batch_size": 1}, 40), "a part": ({"batch_size": 4, "parts": 4}, 40), "all": ({}, 1)}


def normed(num_classes, in_shape):
    pixels = in_shape[0] * in_shape[1] * in_shape[2]
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(pixels), nn.Linear(pixels, num_classes))


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
@pytest.mark.parametrize("what", ONE_BY_ONE)
def test_batch_norm_of_one_image(teacher, store, runtime, what) -> None:
    schedule, images = ONE_BY_ONE[what]
    data = DataConfig(name=few, kwargs={"n": images})
    config = teacher.replace(schedule=teacher.schedule.replace(**schedule), data=data)
    with pytest.raises(UserError, match=r"schedule\.batch_size = '1 image at a time'.*lower `schedule\.parts`"):
        make(config.replace(model=ModelConfig(name=normed)), store, runtime)
    make(config, store, runtime)  # an MLP takes one image


def few(n: int):
    """Return images of one class of two."""
    images = torch.arange(n * 4, dtype=torch.uint8).view(n, 1, 2, 2)
    return images, torch.zeros(n, dtype=torch.int64), images[:1], torch.zeros(1, dtype=torch.int64), ("a", "b")


def test_every_measure_and_curve_is_logged(teacher, store, runtime) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = make(teacher, store, runtime)
    events = EventAccumulator(str(made.path / "tb")).Reload()
    tags = events.Tags()
    scalars = {"loss/total", "train/accuracy", "train/nll", "train/ece", "train/confidence"}
    scalars |= {"train/interclass_variance", "train/equivalent_smoothing", "held_out/accuracy"}
    scalars |= {"speed/learning_rate", "speed/images_per_second"}
    assert scalars <= set(tags["scalars"])
    assert {"logits/correct", "logits/incorrect"} <= set(tags["histograms"])
    assert "test/reliability" in tags["images"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    lines = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == teacher.schedule.epochs
    shown = {"speed/learning_rate": "lr", "speed/images_per_second": "images_per_second"}
    assert {shown.get(name, name) for name in scalars} <= set(lines[-1])


def test_agreement_with_the_teacher_is_shown_as_long_as_the_teacher_is_there(student, store, runtime) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made, teacher = make(student, store, runtime), make(student.cache.teacher, store, runtime)
    (own, _), (teachers, _) = load_predictions(made, "test"), load_predictions(teacher, "test")
    events = EventAccumulator(str(made.path / "tb")).Reload()
    (agreement,) = events.Scalars("test/agreement")
    assert agreement.value == pytest.approx((own.argmax(1) == teachers.argmax(1)).double().mean().item())
    assert "test/agreement" not in made.record.metrics
    (teacher.path / "predictions.safetensors").write_bytes(b"damaged")
    again = run_stage(student.replace(seed=1), store, runtime)
    assert "test/agreement" not in EventAccumulator(str(again.path / "tb")).Reload().Tags()["scalars"]
