"""Compare the equivalent smoothing γ in the record, the log and the analysis with sums done by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from distill.cache import LogitCache, soft_targets
from distill.config import AugmentConfig, LossConfig
from distill.data.sets.load import load
from distill.metrics.monitor import training_measures
from distill.pipeline.graph import ensure
from distill.stages import analysis
from distill.stages import student as student_stage
from distill.store.key import key
from tests.made import interrupt

NAME = "targets/equivalent_smoothing"


def make(config, store, runtime):
    # One process: patches reach no other, and these nets take less time than to start one.
    return ensure([config], store, runtime.model_copy(update={"jobs": 1}))[key(config)]


def gamma(made) -> float | None:
    return made.record.metrics.get(NAME)


def by_hand(logits, labels, temperature: float) -> float:
    """Compute the mean mass on the incorrect classes times K / (K - 1), sample by sample."""
    rows = np.asarray(logits, dtype=np.float64) / temperature
    masses = []
    for row, label in zip(rows, labels, strict=True):
        p = np.exp(row - row.max())
        masses.append(1 - p[label] / p.sum())
    classes = rows.shape[1]
    return float(np.mean(masses)) * classes / (classes - 1)


@pytest.fixture
def soft(student, store, runtime):
    """Return the cached logits of the transfer set, and its labels."""
    cache = LogitCache(make(student.cache, store, runtime))
    labels = load(student.data, runtime.data_root, progress=False).train.labels
    return cache.logits(torch.arange(len(cache))).float().numpy(), labels.numpy()


@pytest.mark.parametrize(("convention", "expected"), [("uniform", 0.3), ("others", 1 / 3)])
def test_of_labels_it_is_the_uniform_smoothing(teacher, student, store, runtime, convention, expected):
    smoothing = {"smoothing": 0.3, "smoothing_convention": convention}
    of_labels = student.replace(cache=None, loss=LossConfig(alpha=0, **smoothing))
    of_labels_with_views = student.replace(loss=LossConfig(alpha=0, **smoothing))
    for config in (teacher.with_loss(**smoothing), of_labels, of_labels_with_views):
        measured = analysis.measure(config, make(config, store, runtime), teacher=None)
        assert measured.values["equivalent_smoothing"] == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 8.0])
@pytest.mark.parametrize("temperature_on", ["both", "teacher"])
def test_of_soft_targets_it_is_their_mass_on_the_incorrect(
    student, store, runtime, soft, temperature, temperature_on
):
    loss = LossConfig(temperature=temperature, temperature_on=temperature_on)
    made = make(student.replace(loss=loss), store, runtime)
    assert gamma(made) == pytest.approx(by_hand(*soft, temperature), rel=1e-9)


def test_of_both_it_is_the_weighted_mean(student, store, runtime, soft):
    loss = LossConfig(alpha=0.6, temperature=4, smoothing=0.2)
    made = make(student.replace(loss=loss), store, runtime)
    assert gamma(made) == pytest.approx(0.4 * 0.2 + 0.6 * by_hand(*soft, 4), rel=1e-9)


def test_excluded_classes_do_not_count(student, store, runtime, soft):
    made = make(student.replace(exclude_classes=(3, 8)), store, runtime)
    logits, labels = soft
    kept = ~np.isin(labels, (3, 8))
    assert gamma(made) == pytest.approx(by_hand(logits[kept], labels[kept], 4), rel=1e-9)


def test_the_tail_of_a_truncated_cache_counts(student, store, runtime):
    cache = student.cache.replace(top_k=2)
    made = make(student.replace(cache=cache), store, runtime)
    opened = LogitCache(make(cache, store, runtime))
    labels = load(student.data, runtime.data_root, progress=False).train.labels
    dense = opened.logits(torch.arange(len(opened)))
    assert gamma(made) == pytest.approx(by_hand(dense, labels.numpy(), 4), rel=1e-9)


def test_targets_without_gamma_have_none(teacher, student, store, runtime):
    mixed = AugmentConfig(mixup=0.5)
    of_mixed = student.replace(cache=student.cache.replace(augment=mixed))
    matched = student.replace(loss=LossConfig(soft="logit-matching"))
    for config in (teacher.replace(augment=mixed), of_mixed, matched):
        made = make(config, store, runtime)
        assert gamma(made) is None
        assert "equivalent_smoothing" not in analysis.measure(config, made, teacher=None).values


def test_a_large_set_is_measured_in_pieces_and_in_part(student, store, runtime, soft, monkeypatch):
    opened = LogitCache(make(student.cache, store, runtime))
    labels = load(student.data, runtime.data_root, progress=False).train.labels
    monkeypatch.setattr(soft_targets, "TARGET_BYTES", 8 * 10 * 7)
    whole = soft_targets.smoothing_of_targets(opened, labels, student.loss)
    assert whole == pytest.approx(by_hand(*soft, 4), rel=1e-12)
    read = []
    logits = opened.logits
    monkeypatch.setattr(opened, "logits", lambda index, view=0: read.append(index) or logits(index, view))
    monkeypatch.setattr(soft_targets, "MEASURED_SAMPLES", 100)
    soft_targets.smoothing_of_targets(opened, labels, student.loss)
    index = torch.cat(read)
    assert max(map(len, read)) == 7
    assert len(index) == len(index.unique()) == 100
    assert int(index[0]) == 0
    assert int(index[-1]) == len(opened) - 1
    gap = len(opened) / 100
    assert int(index.diff().max()) <= gap + 1, "spread over the set"


def test_it_stands_once_at_the_start_of_the_log(student, store, runtime, monkeypatch):
    make(student.cache, store, runtime)

    steps = interrupt(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        make(student, store, runtime)
    made = make(student, store, runtime)
    assert steps == list(range(len(steps)))
    assert_logged_once(made)


def test_a_run_killed_before_its_first_resume_point_logs_it_once(student, store, runtime, monkeypatch):
    make(student.cache, store, runtime)
    from distill.training.state import Run

    update = Run.update
    monkeypatch.setattr(Run, "update", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(student, store, runtime)
    monkeypatch.setattr(Run, "update", update)
    assert_logged_once(make(student, store, runtime))


def assert_logged_once(made) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines].count(0) == 1
    assert lines[0] == {"step": 0, NAME: gamma(made)}
    # A level line in TensorBoard, from the start to the end.
    points = EventAccumulator(str(made.path / "tb")).Reload().Scalars(NAME)
    assert len({point.step for point in points}) == len(points) > 0
    for point in points:
        assert point.value == pytest.approx(gamma(made), rel=1e-6)


def test_it_leaves_the_weights_alone(student, store, runtime, tmp_path, monkeypatch):
    from distill.store.store import ArtifactStore

    measured = make(student, store, runtime)
    monkeypatch.setattr(student_stage, "smoothing_of_targets", lambda *_: None)
    other = make(student, ArtifactStore(tmp_path / "other"), runtime)
    assert gamma(other) is None
    files = measured.record.files, other.record.files
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]


def test_it_is_a_measure_of_the_analysis(student, store, runtime):
    made = make(student, store, runtime)
    measured = analysis.measure(student, made, teacher=None)
    assert measured.values["equivalent_smoothing"] == gamma(made)


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_a_network_at_the_optimum_of_smoothed_labels_has_their_gamma(smoothing):
    labels = torch.arange(20) % 5
    targets = (1 - smoothing) * torch.nn.functional.one_hot(labels, 5) + smoothing / 5
    found = training_measures(targets.double().log(), labels)
    assert found["equivalent_smoothing"] == pytest.approx(smoothing)
