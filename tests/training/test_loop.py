"""What a training run tells of its smoothing: curves, a figure, and warnings in three places."""

from __future__ import annotations

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as TensorAccumulator,
)
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from distill.config import AugmentConfig, DataConfig, LabelsConfig, ScheduleConfig, StudentConfig, TeacherConfig
from distill.metrics.confidence import confidence_gap
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import WARNINGS, load_predictions
from distill.training.tracking import read_metrics
from tests import made as artifacts
from tests.memory import forget_warnings


@pytest.fixture(autouse=True)
def nothing_shown(monkeypatch) -> None:
    """Of one kind only the first warnings of a process are shown."""
    forget_warnings(monkeypatch)


@pytest.fixture
def smoothed(teacher: TeacherConfig) -> TeacherConfig:
    """Learns for long enough to be right more often than it may say."""
    return teacher.replace(schedule=ScheduleConfig(epochs=10, batch_size=64)).with_loss(smoothing=0.3)


def make(config: TeacherConfig | StudentConfig, store: ArtifactStore, runtime: Runtime) -> Artifact:
    return artifacts.make(config, store, runtime.model_copy(update={"progress": True, "jobs": 1}))


def texts(made: Artifact, name: str) -> list[str]:
    events = TensorAccumulator(str(made.path / "tb")).Reload()
    tag = f"{name}/text_summary"
    known = events.Tags()["tensors"]
    return [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)] if tag in known else []


def test_confidence_and_its_ceiling_share_a_chart_and_a_figure(smoothed, store, runtime):
    made = make(smoothed, store, runtime)
    rows = read_metrics(made.path)
    assert [row["train/confidence_ceiling"] for row in rows] == pytest.approx(
        [1 - 0.3 + 0.03] * len(rows), abs=1e-6
    )
    events = EventAccumulator(str(made.path / "tb")).Reload()
    assert {"train/confidence", "train/confidence_ceiling"} <= set(events.Tags()["scalars"])
    assert "train/confidence_curve" in events.Tags()["images"]
    tensors = TensorAccumulator(str(made.path / "tb")).Reload()
    (layout,) = tensors.Tensors("custom_scalars__config__")
    (pair,) = [
        category.chart
        for category in Layout.FromString(layout.tensor_proto.string_val[0]).category
        if category.title.startswith("Confidence")
    ]
    assert [chart.title for chart in pair] == ["hard labels", "smoothed labels"]
    drawn = [tag.removesuffix("$") for tag in pair[1].multiline.tag]
    assert [events.Scalars(tag)[-1].value for tag in drawn] == pytest.approx(
        [rows[-1][f"train/{name}"] for name in ("confidence", "confidence_ceiling")]
    )


def test_curves_on_held_out_images_end_at_the_last_step(smoothed, store, runtime):
    """TensorBoard drops all earlier steps where a step goes back, as that of the measures at the end once did."""
    made = make(smoothed, store, runtime)
    steps = [row["step"] for row in read_metrics(made.path)]
    events = EventAccumulator(str(made.path / "tb")).Reload()
    assert [event.step for event in events.Scalars("held_out/accuracy")] == steps
    assert [event.step for event in events.Scalars("test/interclass_variance")] == steps[-1:]


def test_no_ceiling_is_logged_where_there_is_none(student, store, runtime):
    made = make(student, store, runtime)
    assert all("train/confidence_ceiling" not in row for row in read_metrics(made.path))
    events = EventAccumulator(str(made.path / "tb")).Reload()
    assert "train/confidence_curve" not in events.Tags()["images"]


def test_an_under_confident_network_is_told_of_once_and_in_three_places(smoothed, store, runtime, capsys):
    made = make(smoothed, store, runtime)
    gap = confidence_gap(*load_predictions(made, "held_out"))
    assert gap.low > 0, "the network is what this test needs"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert f"{gap.accuracy:.3f}" in line
    assert f"{gap.confidence:.3f}" in line
    assert f"distill calibrate {made.record.key[:8]}" in line
    assert json.loads(made.file(WARNINGS).read_text()) == {"under-confident": line.removeprefix("warning: ")}
    assert texts(made, "warnings") == [line.removeprefix("warning: ")]


def test_a_pool_is_silent_on_stderr_only(smoothed, store, runtime, capsys):
    made = ensure([smoothed], store, runtime)[key(smoothed)]
    assert isinstance(made, Artifact)
    assert "warning" not in capsys.readouterr().err
    assert "under-confident" in json.loads(made.file(WARNINGS).read_text())


def test_what_has_nothing_to_tell_has_no_file(teacher, store, runtime, capsys):
    made = make(teacher.replace(data=DataConfig(held_out=0)), store, runtime)
    assert WARNINGS not in made.record.files
    assert "warning" not in capsys.readouterr().err


def test_smoothing_of_mixed_labels_is_told_at_the_start_unless_meant(teacher, store, runtime, capsys):
    mixed = teacher.replace(augment=AugmentConfig(mixup=1.0)).with_loss(smoothing=0.1)
    made = make(mixed, store, runtime)
    found = json.loads(made.file(WARNINGS).read_text())["mixed labels"]
    assert capsys.readouterr().err.count(found) == 1
    assert found in texts(made, "warnings")
    meant = make(mixed.with_loss(labels=LabelsConfig(on_mixed=True)), store, runtime)
    assert "mixed labels" not in capsys.readouterr().err
    assert "mixup" not in " ".join(texts(meant, "warnings"))


def test_smoothing_without_effect_is_told_during_training_and_once(smoothed, store, runtime, capsys, monkeypatch):
    """Targets that are said to ask for less than the network gives."""
    monkeypatch.setattr("distill.training.curve.confidence_ceiling", lambda *_: 0.1)
    made = make(smoothed, store, runtime)
    assert capsys.readouterr().err.count("no effect") == 1
    found = json.loads(made.file(WARNINGS).read_text())["no effect"]
    assert f"at step {read_metrics(made.path)[-1]['step']}" in found, "the record is of the end"


def test_the_bits_do_not_depend_on_what_is_watched(smoothed, store, runtime, tmp_path, monkeypatch):
    watched = make(smoothed, store, runtime)
    monkeypatch.setattr("distill.training.curve.has_ceiling", lambda _: False)
    other = ArtifactStore(tmp_path / "other")
    alone = make(smoothed, other, runtime.model_copy(update={"store": other.root}))
    assert (watched.path / "model.safetensors").read_bytes() == (alone.path / "model.safetensors").read_bytes()
