"""The probe of mutual information: the views it looks at, what it makes of them, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from distill.config import AugmentConfig, CacheConfig, InformationProbe, LossConfig, StudentConfig, TeacherConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.data.views.views import Views
from distill.errors import UserError
from distill.metrics.mutual_information import collapsed_information, mutual_information
from distill.pipeline.graph import ensure
from distill.probes import probe
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_network, network_config, snapshot_steps

CONFIG = InformationProbe(classes=(3, 8), per_class=20, draws=4, view_seed=77)


@pytest.fixture
def watched(teacher: TeacherConfig) -> TeacherConfig:
    """A teacher with random views and weights from along its training."""
    return teacher.replace(augment=AugmentConfig(pad=1), snapshots=3)


def made(config: TeacherConfig | StudentConfig, store: ArtifactStore, runtime: Runtime) -> Artifact:
    # In this process: to start others costs more than these networks do.
    (artifact,) = ensure([config], store, runtime.model_copy(update={"jobs": 1})).values()
    assert isinstance(artifact, Artifact)
    return artifact


def by_hand(network: Artifact, runtime: Runtime, augment: AugmentConfig, step: int) -> float:
    """The same from the loader of training, image by image and view by view."""
    data = load(network_config(network).data, runtime.data_root)
    views = Views(data.train, Normaliser(data.mean, data.std), augment, CONFIG.view_seed)
    labels = data.train.labels.tolist()
    rows = [[i for i, label in enumerate(labels) if label == cls][: CONFIG.per_class] for cls in CONFIG.classes]
    index = torch.tensor(rows[0] + rows[1])
    model = load_network(network, step=step)
    values = torch.zeros(len(index), CONFIG.draws + 1)
    for view in range(CONFIG.draws + 1):
        for place, row in enumerate(index):
            with torch.no_grad():
                logits = model(views.images_of(row.unsqueeze(0), view))[0]
            values[place, view] = logits[3] - logits[8]
    return mutual_information(values[:, CONFIG.draws], values[:, : CONFIG.draws])


def test_of_a_teacher(watched, store, runtime, tmp_path):
    network = made(watched, store, runtime)
    measured = probe(CONFIG, network, runtime, tmp_path / "tb")
    steps = snapshot_steps(network)
    assert steps[0] == 0
    assert len(steps) == 4
    assert measured.curves["information_step"] == steps
    information = measured.curves["information"]
    expected = [by_hand(network, runtime, watched.augment, step) for step in steps]
    assert information == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert len(set(information)) == 4
    assert -0.5 <= measured.values["information_printed"] <= 0
    assert measured.values == pytest.approx(
        {
            "information_first": information[0],
            "information_early": information[1],
            "information_late": information[3],
            "information_drop": information[1] - information[3],
            "information_final": information[3],
            "information_peak": max(information),
            "information_printed": measured.values["information_printed"],
            "information_floor": collapsed_information(40, 4),
            "information_log_n": math.log(40),
        }
    )
    assert probe(CONFIG, network, runtime, tmp_path / "again") == measured
    other = probe(CONFIG.replace(view_seed=78), network, runtime, tmp_path / "other")
    assert other.curves["information"] != information


def test_early_and_late_are_quarters_without_the_start(watched, store, runtime, tmp_path):
    measured = probe(CONFIG, made(watched.replace(snapshots=8), store, runtime), runtime, tmp_path)
    information = measured.curves["information"]
    assert len(information) == 9
    assert measured.values["information_early"] == pytest.approx(sum(information[1:3]) / 2)
    assert measured.values["information_late"] == pytest.approx(sum(information[-2:]) / 2)


def test_a_student_is_shown_the_views_of_its_cache(watched, student, store, runtime, tmp_path):
    cache = CacheConfig(teacher=watched, transfer_set=watched.data, augment=AugmentConfig(pad=2), views=2)
    config = student.replace(cache=cache, snapshots=2)
    network = made(config, store, runtime)
    last = snapshot_steps(network)[-1]
    measured = probe(CONFIG, network, runtime, tmp_path)
    expected = by_hand(network, runtime, cache.augment, last)
    assert measured.values["information_final"] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_it_is_written_to_tensorboard(watched, store, runtime, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    network = made(watched, store, runtime)
    measured = probe(CONFIG, network, runtime, tmp_path / "tb")
    events = EventAccumulator(str(tmp_path / "tb" / network.path.name))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("information")]
    steps, information = measured.curves["information_step"], measured.curves["information"]
    assert [step for step, _ in told] == steps
    assert [value for _, value in told] == pytest.approx(information, rel=1e-5)


def test_a_class_with_fewer_images_gives_what_it_has(watched, store, runtime, tmp_path):
    network = made(watched, store, runtime)
    measured = probe(CONFIG.replace(per_class=10_000), network, runtime, tmp_path)
    labels = load(watched.data, runtime.data_root).train.labels
    assert measured.values["information_log_n"] == pytest.approx(
        math.log(int(((labels == 3) | (labels == 8)).sum()))
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"augment": AugmentConfig()}, "augment"),
        ({"snapshots": 0}, "snapshots"),
    ],
)
def test_networks_it_cannot_be_applied_to(watched, store, runtime, tmp_path, changes, told):
    network = made(watched.replace(**changes), store, runtime)
    with pytest.raises(UserError, match=f"^{told} = "):
        probe(CONFIG, network, runtime, tmp_path)


def test_a_student_of_labels_has_views_of_its_own(watched, student, store, runtime, tmp_path):
    plain = StudentConfig(
        data=student.data, model=student.model, schedule=student.schedule, loss=LossConfig(alpha=0), snapshots=2
    )
    with pytest.raises(UserError, match="augment = "):
        probe(CONFIG, made(plain, store, runtime), runtime, tmp_path)
    shifted = made(plain.replace(augment=watched.augment), store, runtime)
    measured = probe(CONFIG, shifted, runtime, tmp_path)
    expected = by_hand(shifted, runtime, watched.augment, 0)
    assert measured.values["information_first"] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("classes", [(3, 10), (3, 3)])
def test_classes_that_are_not_two_of_the_data_set(watched, store, runtime, tmp_path, classes):
    network = made(watched, store, runtime)
    with pytest.raises(UserError, match=r"probe\.classes = .*expected two classes"):
        probe(CONFIG.replace(classes=classes), network, runtime, tmp_path)
