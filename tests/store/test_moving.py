"""Check that artifacts cross disks whole, and that what stands in their place is not lost."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from distill.audit.verify import examine
from distill.config import TeacherConfig
from distill.errors import UserError
from distill.store.garbage import find_garbage
from distill.store.store import ArtifactStore
from tests.faults.attempts import Attempts
from tests.faults.refusals import refused
from tests.store.records import publish, publish_draft

pytestmark = pytest.mark.fault("another disk, moved and linked folders")

CONFIG = TeacherConfig()
WEIGHTS = "model.safetensors"


@pytest.fixture
def two_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every folder be on a disk of its own."""
    rename = Path.rename

    def within(path: Path, target: Path) -> Path:
        if path.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path), None, str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", within)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_artifact_crosses_disks(store: ArtifactStore, two_disks: None) -> None:
    made = publish_draft(store, CONFIG)
    assert made.problems() == []
    assert names(made.path.parent) == [made.path.name]
    assert names(store.root / "drafts") == [f"{store.draft_path(CONFIG).name}.lock"]
    store.delete(made.path)
    assert names(made.path.parent) == []


def test_a_disk_that_is_full_while_an_artifact_crosses_costs_nothing(
    store: ArtifactStore, two_disks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(UserError, match=r"teachers/.*the disk is full.*it goes on from what is whole"):
            publish_draft(store, CONFIG)
    assert names(store.root / "teachers") == []
    with store.draft(CONFIG) as draft:
        assert store.publish_recorded(CONFIG, draft).problems() == []
    assert names(store.root / "teachers") == [store.path(CONFIG).name]


def test_a_disk_that_is_full_at_any_change_while_an_artifact_crosses(
    tmp_path: Path, two_disks: None, count: Callable[[int, int], int], attempts: Attempts
) -> None:
    tried, wrong = 0, []
    for number in range(1, count(3, 100)):
        store = ArtifactStore(tmp_path / str(number))
        with refused(store.root, lambda seen, _, number=number: seen >= number) as refusal, suppress(UserError):
            publish_draft(store, CONFIG)
        if not refusal.refused:
            break
        tried += 1
        wrong += [f"change {number}: {problem}" for problem in publish_draft(store, CONFIG).problems()]
        wrong += (
            [f"change {number}: {names(store.root / 'teachers')}"]
            if len(names(store.root / "teachers")) > 1
            else []
        )
    attempts(tried, wrong)


def test_half_of_a_copy_is_nobody_s_artifact(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed when it has copied everything leaves a whole copy without its name."""

    def killed(path: Path, _: Path) -> None:
        raise KeyboardInterrupt if path.name.startswith(".") else OSError(errno.EXDEV, "other disk")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # SIGKILL cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            publish_draft(store, CONFIG)
    (half,) = (store.root / "teachers").iterdir()
    assert store.find(CONFIG) is None
    assert store.published("teacher") == []
    assert list(examine(store)) == []
    os.utime(half, (0, 0))
    assert (half, "half of a file") in [(each.path, each.reason) for each in find_garbage(store)]
    store.delete(half)
    assert not half.exists()


def test_what_stands_in_the_place_of_an_artifact_is_kept(store: ArtifactStore, capsys) -> None:
    notes = store.path(CONFIG) / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    made = publish_draft(store, CONFIG)
    assert made.problems() == []
    (kept,) = (path for path in made.path.parent.iterdir() if path != made.path)
    assert names(kept) == ["notes.txt"]
    assert f"is now in {kept}" in capsys.readouterr().err
    assert [found.path for found in examine(store)] == [made.path]


def test_what_another_store_published_in_a_shared_folder_is_taken(store: ArtifactStore) -> None:
    publish(store, CONFIG)
    before = (store.path(CONFIG) / "weights").stat().st_ino
    assert publish_draft(store, CONFIG).path == store.path(CONFIG)
    assert (store.path(CONFIG) / "weights").stat().st_ino == before
    assert not store.draft_path(CONFIG).exists()


def test_a_folder_that_cannot_take_the_artifact_is_told_before_the_work(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir()
    teachers = store.root / "teachers"
    teachers.symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="Mount its disk"), store.draft(CONFIG):
        raise AssertionError("the work began")
    teachers.unlink()
    teachers.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != teachers)
    with pytest.raises(UserError, match=r"teachers'.*store that can be read and written"), store.draft(CONFIG):
        raise AssertionError("the work began")
