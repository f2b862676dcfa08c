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
from distill.store.record import RECORD, RESUME
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from tests.store.records import publish


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
    records: dict[str, tuple[Path, list[str], bool]] = {}
    damaged: dict[str, Path] = {}
    for number, (is_old, state, wanted) in enumerate(graph):
        names = [key(configs[other]) for other in sorted(wanted) if other < number]
        fields = {"inputs": dict.fromkeys(names, "")} | ({"version": 0} if is_old else {})
        path = publish(store, configs[number], **fields)
        if state == "cut":
            (path / RECORD).write_text("{")
            damaged[key(configs[number])] = path
        elif state == "gone":
            (path / RECORD).unlink()
        else:
            records[key(configs[number])] = (path, names, not is_old)
    needed = needed_by_current(records)
    kept = {name: content(records[name][0]) for name in needed}
    list(collect(store, delete=True))
    assert {name: content(records[name][0]) for name in needed} == kept
    left = {artifact.record.key for artifact in store.all()}
    assert left == needed, "and of the others nothing"
    inputs = {upstream for name in needed for upstream in records[name][1]}
    assert {name for name, path in damaged.items() if path.exists()} == inputs & set(damaged), "files may be whole"


def test_an_older_version_goes_unless_something_current_names_it(store) -> None:
    kept = publish(store, TeacherConfig(seed=1), version=0)
    gone = publish(store, TeacherConfig(seed=2), version=0)
    middle = publish(store, TeacherConfig(seed=3), version=0, inputs={key(TeacherConfig(seed=1)): ""})
    publish(store, TeacherConfig(seed=4), inputs={key(TeacherConfig(seed=3)): ""})
    assert found(store) == {gone.name: "of version 0"}
    list(collect(store, delete=True))
    assert kept.is_dir()
    assert middle.is_dir()
    assert not gone.exists()


def test_an_older_form_is_told_from_an_older_version(store) -> None:
    path = publish(store, TeacherConfig(), key="0" * 64)
    assert found(store) == {path.name: "of an older form"}


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
    (logs / "old-01234567.log").write_text("Traceback")
    (logs / f"new-{key(TeacherConfig())[:8]}.log").write_text("step 1")
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
    (store.root / "drafts" / f"{key(TeacherConfig())}.lock").touch()
    (store.root / "drafts" / "something-0123.deleted").mkdir()
    half, fresh = (store.root / "teachers" / f"{name}.partial" for name in ("half", "fresh"))
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
            publish(store, TeacherConfig(), accuracy=0.75)
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
        path: ("unreadable record", "cannot be opened"),
        older: ("of version 0", "it may be an input of one whose record cannot be opened"),
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


def test_links_in_its_folders_are_deleted_and_not_followed(store, tmp_path: Path) -> None:
    before = home(tmp_path)
    (there,) = (tmp_path / "home" / "teachers").glob("*/record.json")
    draft = "3" * 64
    for folder, name in [("teachers", there.parent.name), ("drafts", draft), ("drafts", "some.deleted")]:
        (store.root / folder).mkdir(parents=True, exist_ok=True)
        (store.root / folder / name).symlink_to(there.parent)
    (store.root / "drafts" / f"{draft}.lock").symlink_to(there)
    list(collect(store, delete=True, drafts=True))
    assert tree(tmp_path / "home") == before
    assert found(store) == {}


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
    assert kept[path.name] == "cannot be opened"
    list(collect(store, delete=True))
    assert not list((store.root / "drafts").iterdir())


def test_the_token_of_a_killed_run_is_found(store) -> None:
    (store.root / "logs").mkdir(parents=True)
    token = store.root / "logs" / "0123.token"
    with token.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the driver holds it
        assert [(each.path, each.why_kept) for each in find_garbage(store)] == [(token, "in use")]
    list(collect(store, delete=True))
    assert not token.exists()
