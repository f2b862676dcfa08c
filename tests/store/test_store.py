"""Check that drafts are published whole, and found under their path or their key."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from distill.config import TeacherConfig
from distill.errors import UserError
from distill.store.key import key
from distill.store.record import RECORD, RESUME
from distill.store.store import DRAFT_KEY, ArtifactStore
from tests.store.records import publish, publish_draft


def test_a_published_artifact_is_found_whole_and_without_its_resume_point(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    found = store.find(TeacherConfig())
    assert found is not None
    assert found.path == made.path
    assert found.config == TeacherConfig()
    assert found.problems() == []
    assert sorted(path.name for path in found.path.iterdir()) == ["model.safetensors", RECORD]
    assert found.path.name.startswith("digits-mlp-ls0.00-s0-")


def test_nothing_is_found_before_it_is_published(store: ArtifactStore) -> None:
    with store.draft(TeacherConfig()) as draft:
        (draft / "model.safetensors").write_text("half")
        assert store.find(TeacherConfig()) is None
    with store.draft(TeacherConfig()) as again:
        assert (again / "model.safetensors").read_text() == "half", "an interrupted draft is kept"


def test_an_artifact_is_named_by_path_key_or_its_beginning(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    publish_draft(store, TeacherConfig(seed=1))
    for name in (str(made.path), made.record.key, made.record.key[:6]):
        assert store.resolve(name).path == made.path
    for name in (made.path.name, f"teachers/{made.path.name}", made.record.key[:8]):
        assert store.resolve(name).path == made.path
    for name in ("", "nothing-like-it"):
        with pytest.raises(UserError, match="distill ls") as caught:
            store.resolve(name, "network")
        assert caught.value.field == "network"
    for near in (made.path.name, made.record.key[:8]):
        with pytest.raises(UserError, match=f"Did you mean {near}"):
            store.resolve(f"{near[:-3]}{near[-2:]}")
    (made.path / "tb").mkdir()
    for inside in (made.path / "model.safetensors", made.path / "tb"):
        with pytest.raises(
            UserError, match=f"lies in the artifact {re.escape(str(made.path))}. Name that"
        ) as caught:
            store.resolve(str(inside), "teacher")
        assert caught.value.field == "teacher"


def test_a_draft_whose_record_was_written_is_published_as_it_is(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    with store.draft(TeacherConfig()) as draft:
        shutil.rmtree(draft)
        made.path.rename(draft)  # as if killed between the record and the rename
        (draft / RESUME).write_text("not removed yet")
        again = store.publish_recorded(TeacherConfig(), draft)
    assert again.problems() == []
    assert not (again.path / RESUME).exists()


@pytest.mark.fault("another disk, moved and linked folders")
def test_a_draft_is_not_followed_through_a_link(store: ArtifactStore, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / RESUME).write_text("not of this store")
    draft = store.draft_path(TeacherConfig())
    draft.parent.mkdir(parents=True)
    for link, inside in [(draft, draft), (draft / "events", draft / "events")]:
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(home)
        with pytest.raises(UserError, match="no link in a draft") as refused, store.draft(TeacherConfig()):
            pass
        assert repr(str(inside)) in str(refused.value)
        with pytest.raises(UserError, match="no link in a draft"):
            store.publish_recorded(TeacherConfig(), draft)
        link.unlink()
    assert [path.name for path in home.iterdir()] == [RESUME]


@pytest.mark.fault("another disk, moved and linked folders")
def test_a_link_where_an_artifact_belongs_is_replaced(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    store.path(TeacherConfig()).parent.mkdir(parents=True)
    store.path(TeacherConfig()).symlink_to(tmp_path / "home")
    assert publish_draft(store, TeacherConfig()).problems() == []
    assert not list((tmp_path / "home").iterdir())


def test_what_is_aside_comes_back_unless_all_went_well(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    for error in (UserError("a", 1, "b", "c"), KeyboardInterrupt()):
        with pytest.raises(type(error)), store.aside(made.path):
            raise error
        assert made.problems() == []
    with store.aside(made.path):
        assert not made.path.exists()
    assert not made.path.exists()
    assert [path.suffix for path in (store.root / "drafts").iterdir()] == [".lock"]


def test_a_held_draft_is_not_deleted(store: ArtifactStore) -> None:
    with store.draft(TeacherConfig()) as draft:
        store.delete(draft)
        assert draft.exists()


def test_names_that_end_like_a_key(tmp_path: Path) -> None:
    for name in ("a-01234567", "b-01239999", "c", "no-record-01234567"):
        (tmp_path / "teachers" / name).mkdir(parents=True)
        if not name.startswith("no"):
            (tmp_path / "teachers" / name / RECORD).write_text("{}")

    def listed(key: str = "") -> list[str]:
        return [path.name for path in ArtifactStore(tmp_path).published("teacher", key)]

    assert listed() == ["a-01234567", "b-01239999", "c"]
    assert listed("0123") == ["a-01234567", "b-01239999"]
    assert listed("01234567" + "8" * 56) == ["a-01234567"]
    assert ArtifactStore(tmp_path).published("student") == []


@pytest.mark.fault("a damaged resume point or draft")
@pytest.mark.parametrize("kind", ["a resume point", "finished work", "finished work under a new key"])
def test_a_draft_of_another_config_is_neither_resumed_nor_published(store: ArtifactStore, kind: str) -> None:
    other, config = TeacherConfig(seed=1), TeacherConfig()
    with store.draft(other) as draft:
        (draft / RESUME).write_text("state of another run")
    copied = store.draft_path(config)
    shutil.copytree(draft, copied)
    if kind != "a resume point":
        shutil.copytree(publish(store, other), copied, dirs_exist_ok=True)
        (copied / DRAFT_KEY).unlink()
    if kind == "finished work under a new key":
        (copied / DRAFT_KEY).write_text(key(config))
    with pytest.raises(UserError, match=rf"expected the draft of .*, this is the one of {key(other)[:8]}"):  # noqa: SIM117
        with store.draft(config):
            raise AssertionError("it was lent")
    assert (copied / RESUME).is_file(), "it may be the only one"
    assert store.find(config) is None


@pytest.mark.fault("a damaged resume point or draft")
def test_a_finished_draft_is_published_only_whole(store: ArtifactStore) -> None:
    config = TeacherConfig()
    with store.draft(config) as draft:
        shutil.copytree(publish(store, config), draft, dirs_exist_ok=True)
        shutil.rmtree(store.path(config))
        (draft / "weights").write_text("cut")
        with pytest.raises(UserError, match="weights: 3 bytes instead of"):
            store.publish_recorded(config, draft)
    record = draft / RECORD
    record.write_bytes(record.read_bytes().replace(b"0.5", b"0.6"))
    with pytest.raises(UserError, match="it was changed"), store.draft(config):
        pass
    assert store.find(config) is None


def test_the_note_of_another_diverged_run_is_refused(store: ArtifactStore) -> None:
    store.mark_diverged(TeacherConfig(seed=1), "nan")
    assert store.diverged(TeacherConfig(seed=1)) == "nan"
    (note,) = (store.root / "diverged").iterdir()
    note.rename(note.with_name(f"{key(TeacherConfig())}.json"))
    with pytest.raises(UserError, match="under its own key"):
        store.diverged(TeacherConfig())


@pytest.mark.fault("another disk, moved and linked folders")
def test_an_artifact_is_of_the_store_that_it_lies_in(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.read(publish(store, TeacherConfig()))
    (tmp_path / "link").symlink_to(store.root)
    monkeypatch.chdir(made.path.parent)
    for same in (store.root, tmp_path / "link", Path(".."), tmp_path / "link" / ".." / "store"):
        ArtifactStore(same).refuse_other(made)
        ArtifactStore(same).refuse_other(store.read(Path(made.path.name)))
    other = ArtifactStore(tmp_path / "other")
    for _ in range(2):
        with pytest.raises(UserError, match=rf"the store {other.root}\. Set `store={store.root}`"):
            other.refuse_other(made)
        (other.root / "teachers").mkdir(parents=True, exist_ok=True)
    assert other.home(made).root == store.root
    alone = shutil.copytree(made.path, tmp_path / made.path.name)
    assert other.home(other.read(alone)) is other


def test_a_draft_has_the_title_of_its_artifact_for_who_watches_it(store: ArtifactStore) -> None:
    with store.draft(TeacherConfig()) as draft:
        assert draft.name == store.path(TeacherConfig()).name
        assert draft.name.startswith("digits-mlp-ls0.00-s0-")


def test_a_run_that_an_older_version_began_goes_on(store: ArtifactStore) -> None:
    older = store.root / "drafts" / key(TeacherConfig())
    older.mkdir(parents=True)
    (older / RESUME).write_text("half")
    with store.draft(TeacherConfig()) as draft:
        assert (draft / RESUME).read_text() == "half"
    assert not older.exists()
