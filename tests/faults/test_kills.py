"""Check that after SIGKILL, SIGTERM or SIGHUP at any moment the same command goes on, and ends in the same bits."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.config import OptimConfig, ScheduleConfig
from distill.pipeline.graph import ensure
from distill.pipeline.run import run_stage
from distill.store.key import key
from distill.store.record import RESUME, Record
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training import train
from tests.faults import tiny
from tests.faults.nursery import Nursery
from tests.faults.same_bits import differences
from tests.small import GAPS
from tests.training.two_ranks import stop_at

pytestmark = pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")

MAIN = ("teacher", "cache", "student", "report")
STAGES = [*MAIN, *(pytest.param(name, marks=pytest.mark.slow) for name in ("calibration", "analysis", "sweep"))]
TERM_SECONDS = 2.0


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery.open(tmp_path_factory.mktemp("nursery")) as opened:
        yield opened


@pytest.mark.fault("SIGKILL at a random moment")
@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_a_random_moment(nursery: Nursery, stage: str, count, attempts) -> None:
    alone = nursery.undisturbed(stage)
    moments = random.Random(f"{stage} is killed")
    trials, wrong, killed, seconds = count(1, 100 if stage in MAIN else 25), [], 0, alone.seconds
    while killed < trials:
        ended, found = nursery.disturb(stage, signal=signal.SIGKILL, after=moments.uniform(0, seconds))
        wrong += found[:1]
        if ended.code == -signal.SIGKILL:
            killed += 1
        else:  # it was done before: the machine is less busy now
            assert ended.code == 0, ended.said
            seconds = ended.seconds
    attempts(trials, wrong)


@pytest.mark.fault("SIGKILL before each change of a store")
@pytest.mark.parametrize("stage", STAGES)
def test_killed_before_a_change_of_the_store(nursery: Nursery, stage: str, count, attempts) -> None:
    """Kills come before every single change of the store, which random moments seldom hit."""
    changes = nursery.undisturbed(stage).changes
    trials = count(1, changes)
    numbers = range(1, changes + 1) if trials == changes else random.Random(stage).sample(range(1, changes), trials)
    # How many resume points are saved depends on the clock: the last changes may not come.
    found = [nursery.disturb(stage, kill_at=number) for number in numbers]
    assert sum(ended.code == -signal.SIGKILL for ended, _ in found) >= trials // 2
    attempts(trials, [wrong[0] for _, wrong in found if wrong])


@pytest.mark.fault("SIGKILL at a random moment")
def test_half_a_file_of_a_library_is_no_part_of_an_artifact(tmp_path: Path) -> None:
    """A kill may leave the file that safetensors writes under another name before it renames it."""
    store = ArtifactStore(tmp_path)
    with store.draft(tiny.TEACHER) as draft:
        (draft / ".tmpXyz123").write_bytes(b"half")
        (draft / "model.safetensors").write_bytes(b"whole")
        config, files = tiny.TEACHER.model_dump(mode="json"), store.describe_files(draft)
        record = Record(key=key(tiny.TEACHER), version=1, config=config, inputs={}, files=files)
        made = store.publish(tiny.TEACHER, draft, record)
    assert sorted(path.name for path in made.path.iterdir()) == ["model.safetensors", "record.json"]
    assert made.problems() == []


@pytest.mark.parametrize("stage", STAGES)
def test_terminated(nursery: Nursery, stage: str, count, attempts) -> None:
    alone = nursery.undisturbed(stage)
    moments = random.Random(f"{stage} is terminated")
    trials, wrong = count(1, 20), []
    for _ in range(trials):
        number = moments.choice((signal.SIGTERM, signal.SIGHUP))
        ended, found = nursery.disturb(stage, signal=number, after=moments.uniform(0, alone.seconds))
        # By its own exit, or, where there is nothing to save, by the signal; 0 when it was done before.
        if ended.code not in (128 + number, -number, 0):
            found.append(f"ended with {ended.code}: {ended.said}")
        # On a busy machine all takes longer.
        if ended.since_signal > TERM_SECONDS + 3 * alone.seconds:
            found.append(f"took {ended.since_signal:.1f} s to end")
        wrong += found[:1]
    attempts(trials, wrong)


def test_terminated_while_it_evaluates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM during a long evaluation ends it at once; training is saved and the point of the curve is kept."""

    def make(name: str) -> Path:
        runtime = Runtime(store=tmp_path / name, device="cpu", executor="inline", progress=False)
        ensure([tiny.TEACHER], ArtifactStore(runtime.store), runtime)
        return ArtifactStore(runtime.store).path(tiny.TEACHER)

    def never_ends(*_: object) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return {}

    started = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluation_measures", never_ends)
        with pytest.raises(SystemExit) as ended:
            make("terminated")
    assert ended.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - started < 30
    assert list((tmp_path / "terminated" / "drafts").glob(f"*/{RESUME}"))
    assert differences(make("whole"), make("terminated")) == []


@pytest.mark.fault("layers without a gradient, networks that cannot learn")
def test_interrupted_where_layers_have_no_gradient(tmp_path: Path, count, attempts) -> None:
    runtime, wrong = Runtime(store=tmp_path, device="cpu", executor="inline", progress=False), []
    for optimizer in ("momentum", "adamw", "lion")[: count(1, 3)]:
        teacher = tiny.TEACHER.replace(model=GAPS, optim=OptimConfig(name=optimizer), snapshots=0)
        config = teacher.replace(schedule=ScheduleConfig(epochs=1, batch_size=64, parts=2))
        whole = run_stage(config, ArtifactStore(tmp_path / optimizer), runtime)
        for step in random.Random(optimizer).sample(range(1, 15), count(1, 8)):
            store = ArtifactStore(tmp_path / f"{optimizer}{step}")
            stop_at(step, signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                run_stage(config, store, runtime)
            found = differences(run_stage(config, store, runtime).path, whole.path)
            wrong += [f"{optimizer}, after step {step}: {found[0]}"] if found else []
    attempts(count(1, 24), wrong)
