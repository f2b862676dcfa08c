"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from distill.cache import LogitCache
from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    LossConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training import train
from tests import made
from tests.forked_commands import forked_commands
from tests.small import SHORT, TINY

pytest_plugins = ["tests.faults.attempts"]
# Workers of pytest-xdist share two cores; and tiny nets are no faster on more threads.
torch.set_num_threads(1)
# A shell ignores Ctrl-C for what it runs in the background, and so would all children of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The store of whoever runs the tests is none of theirs, nor of the processes that they start.
for _name in [name for name in os.environ if name.startswith("DISTILL_")]:
    del os.environ[_name]


def _once(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw the first figure, and leave those that follow empty."""
    functions = iter([draw])
    return lambda *arguments: next(functions, lambda *_: Figure(figsize=(1, 1), dpi=10))(*arguments)


@pytest.fixture(scope="session", autouse=True)
def _one_figure_for_all_networks() -> Iterator[None]:
    """Draw each figure for TensorBoard once: a figure takes twice as long as the training of a tiny network."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("calibration_figure", "confidence_figure"):
            patch.setattr(train, name, _once(getattr(train, name)))
        yield


@pytest.fixture(scope="session")
def python() -> Iterator[list[str]]:
    """The command line of a `python` that has imported torch already."""
    with forked_commands() as words:
        yield words


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    # Teachers of a few steps are hardly better than chance: the gate has tests of its own.
    folders = {"store": tmp_path / "store", "data_root": tmp_path / "data"}
    return Runtime(**folders, device="cpu", progress=False, min_teacher_accuracy=0)


@pytest.fixture
def store(runtime: Runtime) -> ArtifactStore:
    return ArtifactStore(runtime.store)


@pytest.fixture
def make(store: ArtifactStore, runtime: Runtime) -> Callable[[StageConfig], Artifact]:
    """The artifact of a config in the store of this test."""
    # One process: patches reach no other, and these nets take less time than to start one.
    alone = runtime.model_copy(update={"jobs": 1})
    return lambda config: made.make(config, store, alone)


@pytest.fixture
def teacher() -> TeacherConfig:
    return TeacherConfig(data=DataConfig(held_out=0.15), model=TINY, schedule=SHORT)


@pytest.fixture
def cache(teacher: TeacherConfig) -> CacheConfig:
    return CacheConfig(teacher=teacher, transfer_set=teacher.data)


@pytest.fixture
def student(cache: CacheConfig) -> StudentConfig:
    return StudentConfig(
        cache=cache, data=cache.transfer_set, model=TINY, schedule=SHORT, loss=LossConfig(temperature=4)
    )


@pytest.fixture
def shifted(cache: CacheConfig) -> CacheConfig:
    """A cache of three views."""
    return cache.replace(views=3, augment=AugmentConfig(pad=1))


@pytest.fixture
def opened(shifted: CacheConfig, make: Callable[[StageConfig], Artifact]) -> LogitCache:
    """The same, made and opened."""
    return LogitCache.open(make(shifted).path)


@pytest.fixture
def dataset(cache: CacheConfig, runtime: Runtime) -> Dataset:
    """What it is a cache of."""
    return load(cache.transfer_set, runtime.data_root)
