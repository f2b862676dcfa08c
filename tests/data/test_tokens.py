"""Sequences of tokens through the pipeline: a label per position, and padding that counts nowhere."""

from __future__ import annotations

import json
import math

import pytest
import torch

from distill.config import (
    IGNORED,
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
)
from distill.data.loader import Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.data.views.views import Views
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.training.network import load_network, load_predictions
from distill.training.predict import predict
from tests.data.copies import DATA, LENGTH, MODEL, NAMES, STUDENT, TEACHER, sentences
from tests.made import assert_same_bits, interrupt, make


def test_every_byte_reaches_the_network_as_its_own_number(runtime) -> None:
    data = load(DATA, runtime.data_root)
    assert (data.mean, data.std, data.label_shape) == ((0.0,), (1 / 255,), (LENGTH,))
    mean, std = json.loads(json.dumps([data.mean, data.std]))  # as a record keeps them
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 2, 128)
    assert torch.equal(Normaliser(mean, std)(every), every.float())
    loader = Loader(Views.of_training(data, AugmentConfig(), seed=3), 32, seed=3)
    for batch in loader.epoch(0):
        assert torch.equal(batch.images, data.train.images[batch.index].float())
        assert torch.equal(batch.labels, data.train.labels[batch.index])


def test_held_out_and_limited_samples_are_drawn_without_strata(runtime) -> None:
    data = load(DATA.replace(limit=50), runtime.data_root)
    assert (len(data.train), len(data.held_out), len(data.test)) == (50, 30, 40)
    images, labels = sentences(200, 0)
    assert torch.equal(data.train.images, images[data.positions])
    assert torch.equal(data.train.labels, labels[data.positions])


@pytest.mark.parametrize("config", [TEACHER, STUDENT], ids=["teacher", "student"])
def test_predictions_and_measures_are_of_the_positions_that_count(config, store, runtime) -> None:
    made = make(config, store, runtime)
    data = load(DATA, runtime.data_root)
    whole = predict(load_network(made), data.test.images, Normaliser(data.mean, data.std), "cpu")
    assert whole.shape == (40, LENGTH, len(NAMES))
    logits, labels = load_predictions(made, "test")
    counts = data.test.labels != IGNORED
    assert int((~counts).sum()) > 0
    assert torch.equal(labels, data.test.labels[counts])
    torch.testing.assert_close(logits, whole[counts], rtol=1e-5, atol=1e-5)
    assert len(load_predictions(made, "held_out")[1]) == int((data.held_out.labels != IGNORED).sum())

    analysis = AnalysisConfig(runs=(config,))
    measured = json.loads(make(analysis, store, runtime).file("measures.json").read_text())[made.record.key]
    log_p = logits.double().log_softmax(1)
    surprise = [-float(row[label]) for row, label in zip(log_p, labels.tolist(), strict=True)]
    right = [int(row.argmax()) == label for row, label in zip(log_p, labels.tolist(), strict=True)]
    assert measured["values"]["accuracy"] == pytest.approx(sum(right) / len(right))
    assert measured["values"]["accuracy"] > 0.95, "a copyist learns to copy"
    assert measured["values"]["nll"] == pytest.approx(sum(surprise) / len(surprise))
    assert measured["values"]["nll"] == pytest.approx(made.record.metrics["test/nll"])
    assert sum(measured["curves"]["reliability_count"]) == len(labels)
    assert {"ece", "brier", "interclass_variance"} <= set(measured["values"])


def test_priors_are_of_the_positions_that_count(store, runtime) -> None:
    made = make(TEACHER, store, runtime)
    labels = [label for row in load(DATA, runtime.data_root).train.labels.tolist() for label in row if label >= 0]
    assert made.record.data["priors"] == pytest.approx([labels.count(k) / len(labels) for k in range(len(NAMES))])


def test_measures_along_training_are_of_the_positions_that_count(store, runtime) -> None:
    """One batch of the whole training split, with weights that hardly move: what is logged can be told."""
    schedule = ScheduleConfig(epochs=1, batch_size=170)
    made = make(TEACHER.replace(schedule=schedule, optim=OptimConfig(lr=1e-12)), store, runtime)
    logged = json.loads((made.path / "metrics.jsonl").read_text().splitlines()[-1])
    data = load(DATA, runtime.data_root)
    logits = predict(load_network(made), data.train.images, Normaliser(data.mean, data.std), "cpu").double()
    terms, smoothed, right = [], [], []
    for row, labels in zip(logits.log_softmax(2), data.train.labels.tolist(), strict=True):
        for log_p, label in zip(row, labels, strict=True):
            if label != IGNORED:
                terms.append(-float(log_p[label]))
                smoothed.append(-0.9 * float(log_p[label]) - 0.1 * float(log_p.mean()))
                right.append(int(log_p.argmax()) == label)
    assert logged["train/nll"] == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert logged["train/accuracy"] == pytest.approx(sum(right) / len(right))
    assert logged["loss/total"] == pytest.approx(sum(smoothed) / len(smoothed), rel=1e-5)
    assert logged["held_out/nll"] == pytest.approx(made.record.metrics["held_out/nll"])


@pytest.mark.parametrize("stop_at", [1, 7, 10])
def test_interrupted_is_uninterrupted_bit_for_bit(stop_at, store, runtime, tmp_path, monkeypatch) -> None:
    noisy = MODEL.replace(kwargs={"dropout": 0.3})
    config = TEACHER.replace(model=noisy, ema=0.9, schedule=ScheduleConfig(epochs=3, batch_size=32))
    whole = make(config, ArtifactStore(tmp_path / "whole"), runtime)
    steps = interrupt(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    resumed = make(config, store, runtime)
    assert steps == list(range(15))
    assert_same_bits(resumed, whole)
    assert torch.equal(load_predictions(whole, "test")[0], load_predictions(resumed, "test")[0])


def test_without_held_out_sentences(store, runtime) -> None:
    config = TEACHER.replace(data=DATA.replace(held_out=0), schedule=ScheduleConfig(epochs=1))
    made = make(config, store, runtime)
    logits, labels = load_predictions(made, "held_out")
    assert (logits.shape, labels.shape) == ((0, len(NAMES)), (0,))
    assert math.isfinite(made.record.metrics["test/nll"])


CHANGED = [
    AugmentConfig(pad=1),
    AugmentConfig(flip=True),
    AugmentConfig(mixup=0.2),
    AugmentConfig(cutmix=1),
    AugmentConfig(program="torchvision.transforms.v2:RandomHorizontalFlip"),
]


@pytest.mark.parametrize(
    "augment", CHANGED, ids=lambda augment: ",".join(augment.model_dump(exclude_defaults=True))
)
@pytest.mark.parametrize("config", [TEACHER, STUDENT], ids=["teacher", "student"])
def test_views_of_tokens_are_refused(config, augment, store, runtime) -> None:
    with pytest.raises(UserError, match=r"^augment = .*: expected none for .*label per position\. Drop"):
        make(config.replace(augment=augment), store, runtime)


@pytest.mark.parametrize("config", [TEACHER, STUDENT], ids=["teacher", "student"])
def test_balanced_classes_are_refused(config, store, runtime) -> None:
    with pytest.raises(UserError, match=r"^data\.balanced = True: expected false for .*label per position\. Drop"):
        make(config.replace(data=DATA.replace(balanced=True)), store, runtime)
    with pytest.raises(
        UserError, match=r"^loss\.class_weights = 'balanced': expected none for .*per position\. Drop"
    ):
        make(config.with_loss(class_weights="balanced"), store, runtime)


def test_classes_to_leave_out_are_refused(store, runtime) -> None:
    with pytest.raises(UserError, match=r"^exclude_classes = \(1,\): expected none for .*label per position"):
        make(STUDENT.replace(exclude_classes=(1,)), store, runtime)


def test_a_cache_is_refused(store, runtime) -> None:
    with pytest.raises(UserError, match=r"^transfer_set = .*: expected one label per image; .*labels per position"):
        make(CacheConfig(teacher=TEACHER, transfer_set=DATA), store, runtime)


def test_a_network_with_one_answer_per_sample_is_refused(store, runtime) -> None:
    expected = r"expected 5 logits per position: \[2, 6, 5\] for two images\. In evaluation mode it gives \[2, 5\]"
    with pytest.raises(UserError, match=expected):
        make(TEACHER.replace(model=ModelConfig(name="mlp", kwargs={"widths": [8]})), store, runtime)
