"""Check that one of many processes makes an artifact, whatever becomes of locks and their holders."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from distill.config import TeacherConfig
from distill.errors import UserError
from distill.pipeline.run import run_stage
from distill.store import locks
from distill.store.key import key
from distill.store.locks import held
from distill.store.outcome import Outcome
from distill.store.record import RECORD, Record
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime

pytestmark = [
    pytest.mark.fault("locks and clocks"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # of Python 3.12, see `test_eight…`
]
FORK = multiprocessing.get_context("fork")
CONFIG = TeacherConfig()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


def wait_until(true: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_one(store: Path, made_by: Path) -> str:
    """Make the artifact slowly, or take the one that another process made."""

    def make(draft: Path) -> Outcome:
        with (made_by / str(os.getpid())).open("x"):
            time.sleep(0.2)
        (draft / "model.safetensors").write_bytes(b"weights")
        return Outcome({}, {})

    runtime = Runtime(store=store, device="cpu", threads=1)
    return str(run_stage(CONFIG, ArtifactStore(store), runtime, make).path)


def race(store: Path, made_by: Path, start: Any, answers: Any) -> None:
    start.wait()
    answers.put(make_one(store, made_by))


@pytest.mark.parametrize("locked", [True, False], ids=["locks", "no locks"])
def test_eight_processes_that_want_the_same_artifact_make_it_once(tmp_path, locked, request) -> None:
    if not locked:
        request.getfixturevalue("without_locks")
    store, made_by = tmp_path / "store", tmp_path / "made"
    made_by.mkdir()
    start, answers = FORK.Barrier(8), FORK.Queue()
    # Forked: nothing here computes, so no thread of torch's is missed in a child.
    processes = [FORK.Process(target=race, args=(store, made_by, start, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert found == {str(ArtifactStore(store).path(CONFIG))}
    assert len(list(made_by.iterdir())) == 1, "made more than once"
    left = {path.suffix for path in (store / "drafts").iterdir()}
    assert left <= {".lock"}


def hold(path: Path, holds: Any) -> None:
    with held(path):
        holds.set()
        time.sleep(60)


@pytest.mark.parametrize("locked", [True, False], ids=["locks", "no locks"])
def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path, locked, request) -> None:
    if not locked:
        request.getfixturevalue("without_locks")
    holds = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "a.lock", holds))
    process.start()
    assert holds.wait(30)
    with pytest.raises(TimeoutError), held(tmp_path / "a.lock", wait=False):
        pass
    process.kill()
    process.join()
    started = time.monotonic()
    with held(tmp_path / "a.lock"):
        assert time.monotonic() - started < 2


def test_who_waits_is_told_for_whom(tmp_path, impatient, capsys) -> None:
    path, order = tmp_path / "a.lock", []

    def wait() -> None:
        with held(path, "the teacher"):
            order.append("waited")

    with held(path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        order.append("held")
    thread.join(10)
    assert order == ["held", "waited"]
    said = capsys.readouterr().err
    assert said.startswith(f"waiting for process {os.getpid()} (since 2")
    assert "which makes the same artifact (the teacher)" in said
    assert said.count("\n") == 1


def test_without_locks_one_of_another_machine_is_waited_for(tmp_path, impatient, without_locks, capsys) -> None:
    marker = tmp_path / "a.soft.lock"
    marker.write_text("4242\nnode7\n")
    entered = threading.Event()

    def wait() -> None:
        with held(tmp_path / "a.lock", "the teacher"):
            entered.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not entered.wait(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert "without locks" in lines[0]
    assert "process 4242 on node7 (since 2" in lines[1]
    assert lines[1].endswith(f"if it is gone, delete {marker}")
    marker.unlink()
    thread.join(10)
    assert entered.is_set()


def test_without_locks_all_is_told_once_and_made(tmp_path, without_locks, capsys) -> None:
    made_by = tmp_path / "made"
    made_by.mkdir()
    make_one(tmp_path / "store", made_by)
    make_one(tmp_path / "store", made_by)
    assert capsys.readouterr().err.count("file system without locks") == 1
    assert not list((tmp_path / "store" / "drafts").glob("*.soft.lock"))


def test_an_error_that_is_none_of_locks_is_one_line(tmp_path, monkeypatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(UserError, match=r"store that can be read and written \(Read-only.*`store`"),
        ArtifactStore(tmp_path).draft(CONFIG),
    ):
        pass


def test_a_lock_is_deleted_once(tmp_path, monkeypatch) -> None:
    """Behind its back another process may have made the file again, and hold it."""
    store = ArtifactStore(tmp_path)
    with store.draft(CONFIG) as draft:
        lock = draft.with_name(f"{draft.name}.lock")
    deleted: list[Path] = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: deleted.append(path))
    store.delete(lock)
    assert deleted == [lock]


def test_deleting_locks_never_lets_two_in(tmp_path) -> None:
    """A process that waits for a lock which gc deletes must not take the deleted file for the lock."""
    store, inside, most, stop = ArtifactStore(tmp_path), 0, 0, time.monotonic() + 0.7
    counting = threading.Lock()
    entered, deleted = [0], [0]
    lock = store.draft_path(CONFIG).with_name(f"{store.draft_path(CONFIG).name}.lock")

    def fill() -> None:
        nonlocal inside, most
        while time.monotonic() < stop:
            with store.draft(CONFIG):
                with counting:
                    inside += 1
                    most = max(most, inside)
                    entered[0] += 1
                time.sleep(0.001)
                with counting:
                    inside -= 1

    def delete() -> None:
        while time.monotonic() < stop:
            with suppress(FileNotFoundError), lock.open("rb") as file:
                store.delete(lock)
                deleted[0] += os.fstat(file.fileno()).st_nlink == 0

    threads = [threading.Thread(target=fill) for _ in range(4)] + [
        threading.Thread(target=delete) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert entered[0] > 10
    assert deleted[0] > 0


def test_a_held_draft_and_its_lock_are_left_alone(tmp_path) -> None:
    store = ArtifactStore(tmp_path)
    with store.draft(CONFIG) as draft:
        store.delete(draft)
        store.delete(draft.with_name(f"{draft.name}.lock"))
        assert draft.is_dir()
        assert draft.with_name(f"{draft.name}.lock").is_file()
    store.delete(draft)
    assert not list((tmp_path / "drafts").iterdir())


def test_a_soft_lock_that_is_held_is_left_alone(tmp_path, without_locks) -> None:
    store = ArtifactStore(tmp_path)
    marker = tmp_path / "drafts" / f"{store.draft_path(CONFIG).name}.soft.lock"
    with store.draft(CONFIG):
        store.delete(marker)
        assert marker.is_file()
    marker.write_text(f"{2**22 + 1}\n{socket.gethostname()}\n")  # of a process that there is not
    store.delete(marker)
    assert not marker.exists()


def test_an_artifact_that_is_deleted_leaves_its_place_at_once(tmp_path, monkeypatch) -> None:
    store = ArtifactStore(tmp_path)
    with store.draft(CONFIG) as draft:
        (draft / "weights").write_bytes(b"1")
        config = CONFIG.model_dump(mode="json")
        made = store.publish(CONFIG, draft, Record(key=key(CONFIG), version=1, config=config, inputs={}, files={}))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.delete(made.path)
    assert store.find(CONFIG) is None
    assert not (made.path / RECORD).exists()
