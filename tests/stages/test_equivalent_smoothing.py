"""Compare the equivalent smoothing γ in the record, the log and the analysis with sums done by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from distill.cache import LogitCache, soft_targets
from distill.config import AugmentConfig, LossConfig
from distill.data.sets.load import load
from distill.errors import UnfitTeacher, UserError
from distill.losses import make_loss
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


def asked(student, gamma, **loss):
    return student.replace(loss=LossConfig(equivalent_smoothing=gamma, **loss))


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("alpha", [1, 0.6])
def test_a_student_asks_for_gamma_and_gets_the_temperature_that_has_it(student, store, runtime, top_k, alpha):
    cache = student.cache.replace(top_k=top_k)
    made = make(asked(student.replace(cache=cache), 0.7, alpha=alpha, smoothing=0.1 * (alpha < 1)), store, runtime)
    temperature = made.record.metrics["targets/temperature"]
    opened = LogitCache(make(cache, store, runtime))
    labels = load(student.data, runtime.data_root, progress=False).train.labels
    assert by_hand(opened.logits(torch.arange(len(opened))), labels.numpy(), temperature) == pytest.approx(0.7)
    assert gamma(made) == pytest.approx((1 - alpha) * 0.1 + alpha * 0.7)
    line = json.loads((made.path / "metrics.jsonl").read_text().splitlines()[0])
    assert line == {"step": 0, NAME: gamma(made), "targets/temperature": temperature}


def test_it_is_the_student_of_that_temperature(student, store, runtime):
    made = make(asked(student, 0.7), store, runtime)
    temperature = made.record.metrics["targets/temperature"]
    given = make(student.replace(loss=LossConfig(temperature=temperature)), store, runtime)
    assert made.record.files["model.safetensors"] == given.record.files["model.safetensors"]
    assert made.path.name != given.path.name
    assert "gamma0.7" in made.path.name


@pytest.mark.parametrize("views", [2, None])
def test_the_views_that_the_student_reads_count(student, shifted, store, runtime, views):
    made = make(asked(student.replace(cache=shifted, views=views), 0.8), store, runtime)
    temperature = made.record.metrics["targets/temperature"]
    opened = LogitCache(make(shifted, store, runtime))
    labels = load(student.data, runtime.data_root, progress=False).train.labels.numpy()
    index = torch.arange(len(opened))
    by_view = [by_hand(opened.logits(index, view), labels, temperature) for view in range(views or 3)]
    assert np.mean(by_view) == pytest.approx(0.8)
    assert gamma(made) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("loss", "field"),
    [
        ({"temperature": 2.0}, "loss.temperature"),
        ({"soft": "logit-matching"}, "loss.equivalent_smoothing"),
        ({"alpha": 0.0}, "loss.equivalent_smoothing"),
    ],
)
def test_what_contradicts_it_is_refused(student, loss, field):
    with pytest.raises(UserError) as caught:
        asked(student, 0.3, **loss)
    assert caught.value.field == field


def test_mixed_views_have_no_gamma_to_ask_for(student):
    mixed = student.replace(cache=student.cache.replace(augment=AugmentConfig(mixup=0.5)))
    with pytest.raises(UserError, match="equivalent_smoothing"):
        asked(mixed, 0.3)


def test_out_of_reach_is_one_line_before_the_first_step(student, store, runtime):
    make(student.cache, store, runtime)
    with pytest.raises(UnfitTeacher, match="which temperatures reach with this cache"):
        make(asked(student, 1e-6), store, runtime)


def test_a_loss_without_its_temperature_is_not_made():
    with pytest.raises(ValueError, match="with_temperature"):
        make_loss(LossConfig(equivalent_smoothing=0.3))
