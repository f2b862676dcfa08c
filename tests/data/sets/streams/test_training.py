"""Networks and caches that are made of streamed images."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS
from tests.data.sets.image_files import make_files, write_folder
from tests.made import interrupt, make

TINY = ModelConfig(kwargs={"widths": [8]})
SHORT = ScheduleConfig(epochs=2, batch_size=4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets", make_files())


def teacher(path: Path, **kwargs: object) -> TeacherConfig:
    data = DataConfig(name=f"imagefolder:{path}", held_out=0.2, kwargs=kwargs)
    return TeacherConfig(data=data, model=TINY, schedule=SHORT, augment=AugmentConfig(pad=1, flip=True))


def assert_same_network(one: Artifact, other: Artifact) -> None:
    ours, theirs = load_file(one.path / WEIGHTS), load_file(other.path / WEIGHTS)
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert one.record.metrics == other.record.metrics


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_trains_the_network_of_the_decoded_copy(path: Path, runtime: Runtime, workers: int) -> None:
    runtime = runtime.model_copy(update={"workers": workers, "jobs": 1})
    store = ArtifactStore(runtime.store)
    streamed, decoded = (make(teacher(path, **kwargs), store, runtime) for kwargs in ({"stream": True}, {}))
    assert streamed.path != decoded.path
    assert_same_network(streamed, decoded)


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
def test_an_interrupt_in_mid_epoch_is_resumed(
    path: Path, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime.model_copy(update={"workers": 2, "jobs": 1})
    store, config = ArtifactStore(runtime.store), teacher(path, stream=True)
    steps = interrupt(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    assert 0 < len(steps) < 4, "in the first epoch"
    resumed = make(config, store, runtime)
    whole = make(config, ArtifactStore(tmp_path / "whole"), runtime)
    assert_same_network(resumed, whole)


def test_a_student_that_streams_reads_a_cache_that_was_written_from_a_stream(path: Path, runtime: Runtime) -> None:
    runtime = runtime.model_copy(update={"workers": 2, "jobs": 1})
    store = ArtifactStore(runtime.store)
    streamed, decoded = (
        StudentConfig(
            cache=CacheConfig(
                teacher=teacher(path, **kwargs),
                transfer_set=teacher(path, **kwargs).data,
                augment=AugmentConfig(pad=1, mixup=0.2),
                views=2,
            ),
            data=teacher(path, **kwargs).data,
            model=TINY,
            schedule=SHORT,
        )
        for kwargs in ({"stream": True}, {})
    )
    assert_same_network(make(streamed, store, runtime), make(decoded, store, runtime))
