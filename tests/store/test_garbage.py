from __future__ import annotations

import fcntl
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import ReportConfig, TeacherConfig
from distill.store.garbage import collect, find_garbage
from distill.store.key import key
from distill.store.record import LOG_HEAD, RECORD, RESUME
from distill.store.stages import STAGES
from distill.store.store import DRAFT_KEY, ArtifactStore
from distill.store.unneeded import UNREADABLE
from tests.store.records import of_version, publish

pytestmark = pytest.mark.fault("files of others in a store")


def key_of(config: TeacherConfig, version: int | None = 0) -> str:
    """Return the key that a version of the program computes."""
    with of_version(config, version):
        return key(config)


def found(store: ArtifactStore, unreached: bool = False) -> dict[str, str]:
    """Map the name of each piece of garbage to the reason."""
    return {each.path.name: each.reason for each in find_garbage(store, unreached)}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def needed_by_current(records: dict[str, tuple[Path, list[str], bool]]) -> set[str]:
    """Return the keys that anything current leads to, computed the slow way."""
    needed: set[str] = set()
    for _ in records:  # no path is longer
        roots = {name for name, (_, _, current) in records.items() if current or name in needed}
        needed = roots | {upstream for name in roots for upstream in records[name][1] if upstream in records}
    return needed


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["whole", "whole", "cut", "gone"]), st.sets(st.integers(0, 9))),
        min_size=1,
        max_size=10,
    )
)
def test_what_something_current_was_made_from_stays_whole(tmp_path_factory, graph) -> None:
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    configs = [TeacherConfig(seed=seed) for seed in range(len(graph))]
    keys = [key_of(config, 0 if is_old else None) for config, (is_old, _, _) in zip(configs, graph, strict=True)]
    records: dict[str, tuple[Path, list[str], bool]] = {}
    damaged: set[Path] = set()
    for number, (is_old, state, wanted) in enumerate(graph):
        names = [keys[other] for other in sorted(wanted) if other < number]
        fields = {"inputs": dict.fromkeys(names, "")} | ({"version": 0} if is_old else {})
        path = publish(store, configs[number], **fields)
        if state == "cut":
            (path / RECORD).write_text("{")
            damaged.add(path)
        elif state == "gone":
            (path / RECORD).unlink()
        else:
            records[keys[number]] = (path, names, not is_old)
    needed = needed_by_current(records)
    kept = {name: content(records[name][0]) for name in needed}
    list(collect(store, delete=True))
    assert {name: content(records[name][0]) for name in needed} == kept
    left = {artifact.record.key for artifact in store.all()}
    assert left == (set(records) if damaged else needed), "and of the others nothing, if all records can be read"
    assert all(path.exists() for path in damaged), "their files may be whole"


def test_an_older_version_goes_unless_something_current_names_it(store) -> None:
    kept = publish(store, TeacherConfig(seed=1), version=0)
    gone = publish(store, TeacherConfig(seed=2), version=0)
    middle = publish(store, TeacherConfig(seed=3), version=0, inputs={key_of(TeacherConfig(seed=1)): ""})
    publish(store, TeacherConfig(seed=4), inputs={key_of(TeacherConfig(seed=3)): ""})
    assert found(store) == {gone.name: "of version 0"}
    list(collect(store, delete=True))
    assert kept.is_dir()
    assert middle.is_dir()
    assert not gone.exists()


def test_an_older_form_is_told_from_an_older_version(store) -> None:
    old = publish(store, TeacherConfig(), version=0)
    path = publish(store, TeacherConfig(seed=1), key="0" * 64, inputs={key_of(TeacherConfig()): ""})
    assert found(store) == {old.name: "of version 0", path.name: "of an older form"}


def why_kept(store: ArtifactStore) -> dict[str, str]:
    """Delete all garbage, and map the name of each piece that is still there to why it is kept."""
    list(collect(store, delete=True, drafts=True, unreached=True))
    return {each.path.name: each.why_kept for each in find_garbage(store, unreached=True)}


def test_a_record_that_was_edited_or_is_of_a_newer_version_deletes_nothing(store) -> None:
    edited = publish(store, TeacherConfig(), config=TeacherConfig(seed=9).model_dump(mode="json"))
    newer = publish(store, TeacherConfig(seed=1), version=2, inputs={key_of(TeacherConfig(seed=2)): ""})
    publish(store, TeacherConfig(seed=2), version=0)  # the newer one was made from it
    unknown = publish(store, TeacherConfig(seed=3), config={"stage": "teacher", "field": "of the future"})
    broken = publish(store, TeacherConfig(seed=4))
    (broken / RECORD).write_bytes((broken / RECORD).read_bytes().replace(b"0.5", b"0.6"))
    of_another = "edited, or made by a newer version of this program"
    assert why_kept(store) == {
        edited.name: of_another,
        newer.name: of_another,
        unknown.name: of_another,
        broken.name: UNREADABLE,
    }
    assert len(list((store.root / "teachers").iterdir())) == 5


def test_an_older_artifact_with_a_note_of_its_user_is_kept_whole(store, tmp_path: Path) -> None:
    noted, linked, copied = (publish(store, TeacherConfig(seed=seed), version=0) for seed in range(3))
    (noted / "sub").mkdir()
    (noted / "sub" / "notes.txt").write_text("mine")
    elsewhere = linked.rename(tmp_path / linked.name)
    linked.symlink_to(elsewhere)
    copied = copied.rename(copied.with_name(f"{copied.name}.bak"))
    assert why_kept(store) == {
        noted.name: "it also holds sub/notes.txt",
        linked.name: "a link",
        copied.name: "its name is not that of its record",
    }
    assert (elsewhere / "weights").is_file()
    assert (copied / "weights").is_file()


FOREIGN = {
    "logs": ("boot.log", "build-20240101.log", f"{'1' * 32}.token", "2.token"),
    "diverged": ("notes.json", f"{'1' * 64}.json", f"{'2' * 64}.json"),
    "drafts": (f"{'1' * 64}.lock", "a.lock", "a.deleted", f"{'3' * 64}/photo.png", f"{'3' * 64}.old/photo.png"),
    "teachers": ("half.partial", f"a.{'g' * 32}.partial", "lost+found/a", ".snapshot/a/b", "x-20240101/photo.png"),
    ".": ("download.partial", "a.log", ".git/config"),
}
"""Folder of a store → files of other programs and people in it."""


def test_files_of_other_programs_in_a_store_are_not_listed(store) -> None:
    for folder, names in FOREIGN.items():
        for name in names:
            path = store.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"key": "other", "reason": "mine"}')
            os.utime(path, (0, 0))
    before = tree(store.root)
    assert why_kept(store) == {}
    assert tree(store.root) == before


def test_a_draft_that_was_copied_is_left_alone(store) -> None:
    with store.draft(TeacherConfig()) as draft:
        (draft / "weights").write_text("half")
    copied = draft.with_name("5" * 64)
    shutil.copytree(draft, copied)
    assert (copied / DRAFT_KEY).is_file()
    assert why_kept(store) == {}
    assert copied.is_dir()
    assert not draft.exists()


def test_nothing_is_deleted_unless_asked_and_the_room_is_told(store) -> None:
    path = publish(store, TeacherConfig(), version=0)
    size = sum(file.stat().st_size for file in path.iterdir())
    *items, of_reason, total = collect(store, delete=False)
    assert len(items) == 1
    assert str(path) in items[0]
    assert of_reason.split() == ["1", "of", "version", "0", f"{size / 1000:.3g}", "kB"]
    assert total.split() == f"1 in all: {size / 1000:.3g} kB would be freed with `delete`".split()
    assert path.is_dir()
    assert list(collect(store, delete=True))[-1].endswith("kB freed")
    assert not path.exists()
    assert [line.strip() for line in collect(store, delete=False)] == ["0 in all: 0 B would be freed with `delete`"]


def test_a_draft_that_resumes_a_run_is_named_and_kept_unless_asked(store) -> None:
    with store.draft(TeacherConfig()) as resumes:
        (resumes / RESUME).write_text("state")
    with store.draft(TeacherConfig(seed=1)) as empty:
        pass
    named = {each.path: (each.reason, each.why_kept) for each in find_garbage(store)}
    assert named == {
        resumes: ("unfinished draft", "resumes a run"),
        empty: ("unfinished draft", ""),
    }
    list(collect(store, delete=True))
    assert resumes.is_dir()
    assert not empty.exists()
    list(collect(store, delete=True, drafts=True))
    assert not resumes.exists()
    assert found(store) == {}


def test_what_a_process_works_on_is_left_alone(store) -> None:
    logs = store.root / "logs"
    logs.mkdir(parents=True)
    (logs / "old-01234567.log").write_bytes(LOG_HEAD + b"Traceback")
    (logs / f"new-{key(TeacherConfig())[:8]}.log").write_bytes(LOG_HEAD + b"step 1")
    unreached = publish(store, TeacherConfig(seed=1))
    with store.draft(TeacherConfig()) as draft:
        kept = {each.path.name: each.why_kept for each in find_garbage(store, unreached=True)}
        assert kept == {
            draft.name: "in use",
            "old-01234567.log": "",
            f"new-{key(TeacherConfig())[:8]}.log": "in use",
            unreached.name: "in use",
        }
        list(collect(store, delete=True, drafts=True, unreached=True))
        assert draft.is_dir()
        assert unreached.is_dir()
    assert [path.name for path in logs.iterdir()] == [f"new-{key(TeacherConfig())[:8]}.log"]


def test_left_overs_of_killed_processes_are_found(store) -> None:
    (store.root / "drafts").mkdir(parents=True)
    (store.root / "teachers").mkdir()
    (store.root / "drafts" / f"{store.path(TeacherConfig()).name}.lock").touch()
    (store.root / "drafts" / f"something-{'0' * 32}.deleted").mkdir()
    (store.root / "teachers" / f".something-{'0' * 32}.deleted").mkdir()
    half, fresh = (store.root / "teachers" / f"{name}.{'1' * 32}.partial" for name in ("half", "fresh"))
    half.write_text("x")
    fresh.write_text("x")
    os.utime(half, (time.time() - 7200,) * 2)
    assert set(found(store).values()) == {"lock", "half deleted", "half of a file"}
    list(collect(store, delete=True))
    assert found(store) == {}
    assert fresh.exists(), "it may be written at this moment"


def test_notes_of_diverged_runs_and_old_versions(store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = publish(store, TeacherConfig())
    store.mark_diverged(TeacherConfig(seed=8), "loss = nan")
    assert set(found(store).values()) == {"note of a diverged run"}
    list(collect(store, delete=True))
    assert store.diverged(TeacherConfig(seed=8)) is None
    monkeypatch.setitem(STAGES, "teacher", replace(STAGES["teacher"], version=2))
    assert store.find(TeacherConfig()) is None, "another version of the code has another key"
    assert found(store) == {kept.name: "of version 1"}


def test_what_no_report_was_made_from_is_listed_when_asked(store) -> None:
    reached, alone = publish(store, TeacherConfig()), publish(store, TeacherConfig(seed=1))
    report = ReportConfig(experiment="e", source="", scale="quick", data="digits", analyses=())
    publish(store, report, inputs={key(TeacherConfig()): ""})
    assert found(store) == {}
    assert found(store, unreached=True) == {alone.name: "in no report or sweep"}
    list(collect(store, delete=True, unreached=True))
    assert reached.is_dir()
    assert not alone.exists()


def test_what_was_made_again_in_the_meantime_is_not_deleted(store, monkeypatch) -> None:
    path = publish(store, TeacherConfig(), version=0)
    lines = collect(store, delete=True)
    real = find_garbage

    def slow(*arguments):
        for each in list(real(*arguments)):
            publish(store, TeacherConfig(), accuracy=0.75, version=0)
            yield each

    monkeypatch.setattr("distill.store.garbage.find_garbage", slow)
    assert "(kept: changed)" in next(lines)
    assert (path / RECORD).is_file()


def test_a_record_that_may_not_be_opened_is_not_taken_for_damaged(store) -> None:
    path = publish(store, TeacherConfig())
    (path / RECORD).unlink()
    (path / RECORD).mkdir()  # opening it fails, also for root
    older = publish(store, TeacherConfig(seed=1), version=0)
    kept = {each.path: (each.reason, each.why_kept) for each in find_garbage(store)}
    assert kept == {
        path: ("unreadable record", UNREADABLE),
        older: ("of version 0", "it may be an input of an unreadable record"),
    }


def home(tmp_path: Path) -> dict[str, bytes]:
    """Make a folder that is no store, with files that would be garbage in a store; return its content."""
    elsewhere = ArtifactStore(tmp_path / "home")
    old = publish(elsewhere, TeacherConfig(seed=9), version=0)
    for path in (old, old.with_name("photos"), old.with_name("0" * 64)):
        path.mkdir(exist_ok=True)
        (path / "photo.png").write_text("a photo")
    for name in ("boot.log", "notes.json", "half.partial", f"{'1' * 64}.lock", "2.token"):
        (old.parent / name).write_text("mine")
        os.utime(old.parent / name, (0, 0))
    return tree(tmp_path / "home")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["drafts", "logs", "diverged", "teachers", "students"])
def test_what_a_linked_folder_leads_to_is_left_alone_and_that_is_said(store, tmp_path: Path, name: str) -> None:
    before = home(tmp_path)
    store.root.mkdir()
    (store.root / name).symlink_to(tmp_path / "home" / "teachers")
    said = list(collect(store, delete=True, drafts=True, unreached=True))
    assert tree(tmp_path / "home") == before
    assert f"{name}  (kept: what it leads to" in said[0]
    assert said[-1].split()[0] == "0"


def test_a_store_that_is_a_link_itself_is_cleaned(store, tmp_path: Path) -> None:
    path = publish(store, TeacherConfig(), version=0)
    (tmp_path / "link").symlink_to(store.root)
    list(collect(ArtifactStore(tmp_path / "link"), delete=True))
    assert not path.exists()


def test_links_in_its_folders_are_neither_deleted_nor_followed(store, tmp_path: Path) -> None:
    before = home(tmp_path)
    (there,) = (tmp_path / "home" / "teachers").glob("*/record.json")
    draft = "3" * 64
    for folder, name in [("teachers", there.parent.name), ("drafts", draft), ("drafts", "some.deleted")]:
        (store.root / folder).mkdir(parents=True, exist_ok=True)
        (store.root / folder / name).symlink_to(there.parent)
    (store.root / "drafts" / f"{draft}.lock").symlink_to(there)
    assert why_kept(store) == {there.parent.name: "a link"}
    assert tree(tmp_path / "home") == before
    assert len([path for path in store.root.rglob("*") if path.is_symlink()]) == 4


def test_what_no_run_made_is_no_draft(store) -> None:
    (store.root / "drafts" / "photos").mkdir(parents=True)
    assert found(store) == {}


def test_pipes_are_not_waited_for(store) -> None:
    path = publish(store, TeacherConfig())
    shutil.copytree(path, path.with_name("a"))
    (store.root / "drafts").mkdir()
    for pipe in (path / RECORD, *(store.root / "drafts" / f"{'4' * 64}{end}.lock" for end in ("", ".soft"))):
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
    kept = {each.path.name: each.why_kept for each in find_garbage(store)}
    assert kept == {path.name: UNREADABLE}
    list(collect(store, delete=True))
    assert len(list((store.root / "drafts").iterdir())) == 2, "no run made these pipes"


def test_the_token_of_a_killed_run_is_found(store) -> None:
    (store.root / "logs").mkdir(parents=True)
    token = store.root / "logs" / f"{'0' * 32}.token"
    with token.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the driver holds it
        assert [(each.path, each.why_kept) for each in find_garbage(store)] == [(token, "in use")]
    list(collect(store, delete=True))
    assert not token.exists()
