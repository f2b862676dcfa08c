"""The probe of snapshots: what it measures at each part of training, and that it leaves other networks alone."""

from __future__ import annotations

import pytest
import torch

from distill.config import CacheConfig, ScheduleConfig, SnapshotsProbe, StudentConfig, TeacherConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.measured import Measured
from distill.pipeline.graph import ensure
from distill.probes import probe
from distill.stages.analysis import measure
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_network, snapshot_steps

CONFIG = SnapshotsProbe()
NAMES = "accuracy", "nll", "ece", "confidence", "interclass_variance_relative", "conditional_mutual_information"


def made(config: TeacherConfig | StudentConfig | CacheConfig, store: ArtifactStore, runtime: Runtime) -> Artifact:
    # In this process: to start others costs more than these networks do.
    (artifact,) = ensure([config], store, runtime.model_copy(update={"jobs": 1})).values()
    assert isinstance(artifact, Artifact)
    return artifact


@pytest.fixture
def watched(teacher: TeacherConfig) -> TeacherConfig:
    """A teacher with weights from along its training."""
    return teacher.replace(snapshots=3, schedule=ScheduleConfig(epochs=3, batch_size=64))


def test_the_last_part_is_what_every_network_is_measured_by(watched, store, runtime, tmp_path):
    network = made(watched, store, runtime)
    found = probe(CONFIG, network, runtime, tmp_path / "tb")
    end = measure(watched, network, None).values
    assert {name: found.values[f"{name}_part3"] for name in NAMES} == pytest.approx(
        {name: end[name] for name in NAMES}, rel=1e-5
    )
    assert set(found.values) == {f"{name}_part{part}" for name in NAMES for part in range(4)}


def test_each_part_is_measured_with_its_own_weights(watched, store, runtime, tmp_path):
    """Accuracy and NLL image by image, from the weights on disk."""
    network = made(watched, store, runtime)
    found = probe(CONFIG, network, runtime, tmp_path)
    data = load(watched.data, runtime.data_root)
    images = Normaliser(data.mean, data.std, "cpu")(data.test.images)
    for part, step in enumerate(snapshot_steps(network)):
        with torch.no_grad():
            logits = load_network(network, step=step)(images).double()
        p = logits.exp() / logits.exp().sum(1, keepdim=True)
        right = [int(row.argmax()) == int(label) for row, label in zip(p, data.test.labels, strict=True)]
        surprise = [-row[label].log().item() for row, label in zip(p, data.test.labels, strict=True)]
        assert found.values[f"accuracy_part{part}"] == pytest.approx(sum(right) / len(right))
        assert found.values[f"nll_part{part}"] == pytest.approx(sum(surprise) / len(surprise), rel=1e-4)
    assert found.values["accuracy_part3"] > found.values["accuracy_part0"]


def test_curves_are_the_values_along_the_steps_and_in_tensorboard(watched, store, runtime, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    network = made(watched, store, runtime)
    found = probe(CONFIG, network, runtime, tmp_path / "tb")
    steps = snapshot_steps(network)
    assert found.curves["snapshot_step"] == steps
    for name in NAMES:
        assert found.curves[f"snapshot_{name}"] == [found.values[f"{name}_part{part}"] for part in range(4)]
    events = EventAccumulator(str(tmp_path / "tb" / network.path.name))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("snapshots/ece")]
    assert [step for step, _ in told] == steps
    assert [value for _, value in told] == pytest.approx(found.curves["snapshot_ece"], rel=1e-5)


def test_bins_are_those_of_the_calibration_error_alone(watched, store, runtime, tmp_path):
    network = made(watched, store, runtime)
    one = probe(CONFIG.replace(bins=1), network, runtime, tmp_path / "one").values
    many = probe(CONFIG, network, runtime, tmp_path / "many").values
    gap = abs(one["confidence_part3"] - one["accuracy_part3"])
    assert one["ece_part3"] == pytest.approx(gap, abs=1e-9), "with one bin it is the difference of the means"
    differs = {name for name in one if one[name] != many[name]}
    assert differs <= {f"ece_part{part}" for part in range(4)}


def test_a_student_of_a_network_with_snapshots_has_its_own(watched, student, store, runtime, tmp_path):
    cache = CacheConfig(teacher=watched, transfer_set=watched.data, snapshot=1)
    network = made(student.replace(cache=cache, snapshots=2), store, runtime)
    found = probe(CONFIG, network, runtime, tmp_path)
    assert found.curves["snapshot_step"] == snapshot_steps(network)
    assert {name for name in found.values if name.startswith("ece")} == {f"ece_part{part}" for part in range(3)}


def test_a_network_without_snapshots_has_nothing_and_is_no_error(teacher, store, runtime, tmp_path):
    assert probe(CONFIG, made(teacher, store, runtime), runtime, tmp_path / "tb") == Measured({}, {})
    assert not (tmp_path / "tb").exists()


def test_what_a_part_does_not_have_is_left_out(watched, store, runtime, tmp_path, monkeypatch):
    network = made(watched, store, runtime)
    infinite = iter([1.0, float("inf"), 0.5, 0.25])
    monkeypatch.setattr("distill.metrics.accuracy.nll", lambda *_: next(infinite))
    found = probe(CONFIG, network, runtime, tmp_path)
    assert "nll_part1" not in found.values
    assert found.values["nll_part3"] == 0.25
    assert "snapshot_nll" not in found.curves
    assert len(found.curves["snapshot_ece"]) == 4


def test_an_artifact_that_is_no_network(cache, store, runtime, tmp_path):
    with pytest.raises(UserError, match=r"^artifact = "):
        probe(CONFIG, made(cache, store, runtime), runtime, tmp_path)
