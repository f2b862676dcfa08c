"""Check what is said and kept on a full disk, in folders that cannot be written, and when a clock is set back."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.cli import main as cli
from distill.config import ScheduleConfig, StageConfig
from distill.errors import UserError
from distill.pipeline.graph import ensure
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.tracking import MetricWriter, read_metrics
from tests.faults import tiny
from tests.faults.refusals import few_open_files, files_of_at_most, refused
from tests.faults.same_bits import differences
from tests.memory import forget_warnings

pytestmark = pytest.mark.fault("a full or read-only disk")

STAGES = ("teacher", "cache", "student", "report")
SIZES = (0, 200, 3_000, 10_000)
"""Sizes in bytes at which a write fails: of nothing, half a JSON file, parts of weights, shards and figures."""


def runtime_of(store: Path) -> Runtime:
    """Return a runtime that saves often, so that writing the resume point fails too."""
    often = {"checkpoint_seconds": 0.01, "min_teacher_accuracy": 0}
    return Runtime(
        store=store, device="cpu", executor="inline", jobs=1, threads=1, workers=0, progress=False, **often
    )


class World:
    """A store in which everything was made undisturbed, and copies of it that lack one artifact."""

    def __init__(self, folder: Path):
        self.folder, self.whole, self._copies = folder, ArtifactStore(folder / "whole"), 0
        self.configs = tiny.stages()
        ensure([self.configs["report"]], self.whole, runtime_of(self.whole.root))

    def without(self, config: StageConfig) -> ArtifactStore:
        """Return a store that has the inputs of this config, but not its artifact."""
        self._copies += 1
        root = self.folder / str(self._copies)
        shutil.copytree(self.whole.root, root, copy_function=os.link)
        shutil.rmtree(root / "drafts")
        store = ArtifactStore(root)
        shutil.rmtree(store.path(config))
        return store

    def made(self, config: StageConfig) -> Artifact:
        """Return the undisturbed artifact of a config."""
        found = self.whole.find(config)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.reports.experiment_files.load_experiment", {tiny.NAME: tiny}.__getitem__)
        forget_warnings(patch, "TensorBoard")
        yield World(tmp_path_factory.mktemp("world"))
    torch.set_num_threads(threads)


def what_is_wrong(world: World, config: StageConfig, store: ArtifactStore, told: str | None) -> list[str]:
    """List what is wrong after a run that the disk refused and one that it did not."""
    wrong = []
    if told is None:  # what was refused is none of what an artifact needs
        half = store.find(config)
        wrong += ["nothing was said, and nothing made"] if half is None else half.problems()
    else:
        wrong += [] if store.find(config) is None else ["an artifact, though the run failed"]
        clear = str(store.root) in told and "GB free" in told and "set `store`" in told and "\n" not in told
        wrong += [] if clear else [f"not clear: {told}"]
    made = run_stage(config, store, runtime_of(store.root))
    wrong += differences(made.path, world.made(config).path) + made.problems()
    left = [path for path in store.root.rglob("*") if path.suffix == ".partial" or path.parent.name == "drafts"]
    return wrong + [f"left over: {path}" for path in left if path.suffix != ".lock"]


def run_refused(config: StageConfig, store: ArtifactStore) -> str | None:
    """Run a stage and return its error on a full disk; None if it succeeds."""
    try:
        run_stage(config, store, runtime_of(store.root))
    except UserError as error:
        return str(error)
    return None


def changes(world: World, config: StageConfig) -> int:
    """Count the changes of the store in an undisturbed run."""
    store = world.without(config)
    with refused(store.root) as every:
        run_stage(config, store, runtime_of(store.root))
    return every.seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_full_at_any_change_of_the_store(world: World, stage: str, count, attempts) -> None:
    config = world.configs[stage]
    numbers = random.Random(stage).sample(range(1, 13), count(1, 0)) or range(1, changes(world, config) + 1)
    wrong, hit = [], 0
    for number in numbers:
        store = world.without(config)
        with refused(store.root, lambda seen, _, number=number: seen >= number) as refusal:
            told = run_refused(config, store)
        hit += refusal.refused > 0
        found = what_is_wrong(world, config, store, told)
        wrong += [f"change {number}: {found[0]}"] if found else []
        shutil.rmtree(store.root)
    # How often a resume point is saved depends on the clock: the last changes may not come.
    assert hit >= len(numbers) // 2
    attempts(len(numbers), wrong)


@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_is_full_in_the_middle_of_a_file(world: World, stage: str, count, attempts) -> None:
    """Files that Rust or PIL writes, which Python's `open` does not see, fail in the middle too."""
    config, wrong, failed = world.configs[stage], [], 0
    sizes = random.Random(stage).sample(SIZES, count(1, len(SIZES)))
    for size in sizes:
        store = world.without(config)
        with files_of_at_most(size):
            told = run_refused(config, store)
        failed += told is not None
        found = what_is_wrong(world, config, store, told)
        wrong += [f"files of at most {size} bytes: {found[0]}"] if found else []
    assert failed, "every file was smaller"
    attempts(len(sizes), wrong)


@pytest.mark.slow
def test_a_real_disk_that_is_full(world: World, tmp_path: Path) -> None:
    """A run on a full file system of 64 KiB fails, and goes on when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        config, store = world.configs["teacher"], ArtifactStore(disk / "store")
        with pytest.raises(UserError, match="the disk is full") as caught:
            run_stage(config, store, runtime_of(store.root))
        assert str(disk) in str(caught.value)
        assert store.find(config) is None
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        made = run_stage(config, store, runtime_of(store.root))
        assert differences(made.path, world.made(config).path) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_read_only_store_is_one_line_and_can_be_read(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    config = world.configs["teacher"]
    store = world.without(config)
    with refused(store.root, lambda *_: True, errno.EROFS) as refusal:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["teacher", "--store", str(store.root), "--device", "cpu", "--executor", "inline"])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: path = ")
        assert "(Read-only file system)" in said
        assert "or DISTILL_STORE to a folder of yours" in said
        assert said.count("\n") == 1
        refusal.refused = 0
        cli.main(["ls", "student", "--store", str(store.root)])
        assert "students/" in capsys.readouterr().out
        assert run_or_find(world.configs["student"], store).problems() == []
    assert not (store.root / "drafts").exists()


def run_or_find(config: StageConfig, store: ArtifactStore) -> Artifact:
    made = ensure([config], store, runtime_of(store.root))[key(config)]
    assert isinstance(made, Artifact)
    return made


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_a_tensorboard_folder_that_cannot_be_written_costs_no_training(world: World, capsys, monkeypatch, number):
    forget_warnings(monkeypatch)
    config = world.configs["teacher"]
    store = world.without(config)
    with refused(store.root, lambda _, path: "/tb" in path, number) as refusal:
        made = run_stage(config, store, runtime_of(store.root))
    assert refusal.refused == 2, "once for the training and once for its end"
    assert capsys.readouterr().err.startswith("warning: no TensorBoard log from here on (")
    assert differences(made.path, world.made(config).path) == []
    assert not (made.path / "tb").exists()


def test_a_tensorboard_disk_that_fills_up_keeps_what_fitted(tmp_path: Path, capsys, monkeypatch) -> None:
    forget_warnings(monkeypatch)
    size = 20_000
    with files_of_at_most(size), MetricWriter(tmp_path) as writer:
        writer.scalars(1, {"loss": 1.0})
        for step in range(20):
            writer.text(step, "long", "x" * 2000)
        writer.scalars(2, {"loss": 0.5})
    assert capsys.readouterr().err.count("no TensorBoard log from here on") == 1
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    assert [event.step for event in EventAccumulator(str(tmp_path / "tb")).Reload().Scalars("loss")] == [1]


@pytest.mark.fault("more shards than files may be open")
def test_a_cache_has_more_shards_than_files_may_be_open(world: World, monkeypatch, attempts, count) -> None:
    monkeypatch.setattr("distill.cache.logit_cache.RESIDENT_BYTES", 0)  # a large cache stays on disk
    wrong, trials = [], random.Random(0).sample((90, 150, 300), count(1, 3))
    for views in trials:
        cache = world.configs["cache"].replace(views=views)
        student = world.configs["student"].replace(
            cache=cache, schedule=ScheduleConfig(epochs=views, batch_size=512)
        )
        store = world.without(world.configs["student"])
        with few_open_files(64):
            made = run_or_find(student, store)
            found = store.find(cache)
            problems = made.problems() + (found.problems() if found else ["no cache"])
        wrong += [f"{views} views: {problems[0]}"] if problems else []
        shutil.rmtree(store.root)
    attempts(len(trials), wrong)


@pytest.mark.fault("locks and clocks")
def test_a_clock_that_goes_backwards_changes_nothing_but_shown_times(world: World, monkeypatch) -> None:
    config, now = world.configs["teacher"], [4e9]

    def time_of_day() -> float:
        now[0] -= 1e5
        return now[0]

    monkeypatch.setattr(time, "time", time_of_day)
    monkeypatch.setattr(time, "time_ns", lambda: int(time_of_day() * 1e9))
    store = world.without(config)
    made = run_stage(config, store, runtime_of(store.root))
    assert differences(made.path, world.made(config).path) == []
    assert run_stage(config, store, runtime_of(store.root)).path == made.path


@pytest.mark.fault("locks and clocks")
def test_a_clock_that_was_set_back_does_not_hide_a_resumed_run(tmp_path: Path, monkeypatch) -> None:
    """TensorBoard orders the files of a run by name, and hides the steps that were done again."""
    for start, now in ((0, 2e9), (2, 1e9), (4, 3e8)):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        with MetricWriter(tmp_path, start) as writer:
            for step in (start + 1, start + 2, start + 3):
                writer.scalars(step, {"loss": float(start)})
    events = EventAccumulator(str(tmp_path / "tb")).Reload().Scalars("loss")
    found = [(event.step, event.value) for event in events]
    assert found == [(1, 0), (2, 0), (3, 2), (4, 2), (5, 4), (6, 4), (7, 4)]
