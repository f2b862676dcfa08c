from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import CacheConfig, DataConfig, ReportConfig, StudentConfig, TeacherConfig
from distill.store.entries import Entry, cost_group, published, record_stat
from distill.store.index import FOLDER, written_with
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from tests.store.records import publish, sealed


def listed(root: Path, stage: str = "teacher") -> list[Entry]:
    return ArtifactStore(root).entries(stage)


def afresh(root: Path, stage: str = "teacher") -> list[Entry]:
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    return listed(root, stage)


def test_an_entry_says_what_the_record_says(store: ArtifactStore) -> None:
    cache = CacheConfig()
    path = publish(store, cache, 0.25)
    (entry,) = store.entries("cache")
    assert (entry.name, entry.key, entry.version, entry.current) == (path.name, key(cache), 1, True)
    assert (entry.accuracy, entry.seconds, entry.bytes) == (0.25, 1.5, len(f"weights of {key(cache)}"))
    assert entry.inputs == (key(cache.teacher),)
    assert entry.shape == (10, 5, 1, 8, 8, 2)
    assert entry.cost_group == cost_group(cache)
    assert entry.problem == ""
    limited = cache.transfer_set.replace(limit=3)
    publish(store, CacheConfig(transfer_set=limited))
    assert {entry.shape for entry in store.entries("cache")} == {(), (10, 5, 1, 8, 8, 2)}, "a part is not the set"


def test_records_are_opened_once(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        publish(store, TeacherConfig(seed=seed))
    first = store.entries("teacher")
    monkeypatch.setattr(ArtifactStore, "read", lambda *_: pytest.fail("opened again"))
    assert store.entries("teacher") == first


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["publish", "delete", "edit", "cut", "look", "spoil", "forget"]), st.integers(0, 3)
        ),
        max_size=12,
    )
)
def test_whatever_happens_the_index_says_what_the_records_say(tmp_path_factory, steps) -> None:
    root = tmp_path_factory.mktemp("store")
    store = ArtifactStore(root)
    for number, (what, seed) in enumerate(steps):
        record = store.path(TeacherConfig(seed=seed)) / RECORD
        if what == "publish":
            publish(store, TeacherConfig(seed=seed), accuracy=number / 100)
        elif what == "look":
            listed(root)
        elif what == "spoil" and (file := root / FOLDER / "teachers.json").is_file():
            file.write_bytes(file.read_bytes()[: 40 * number])
        elif what == "forget":
            shutil.rmtree(root / FOLDER, ignore_errors=True)
        elif record.is_file() and what == "delete":
            shutil.rmtree(record.parent)
        elif record.is_file() and what == "cut":
            record.write_text("{")
        elif record.is_file() and what == "edit" and len(record.read_text()) > 1:
            before = record.stat()
            text = record.read_text().replace('"test/accuracy": 0.', '"test/accuracy": 1.')
            record.write_bytes(sealed(json.loads(text)))
            os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert listed(root) == afresh(root)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '["other", ROWS]',
        '[1, [["a"]]]',
        '{"__reduce__": "os.system"}',
        '["CODE", [["NAME"]]]',
        '["CODE", [["NAME", STAT, 1]]]',
        '["CODE", ROWS, []]',
        '["CODE", {"NAME": STAT}]',
    ],
)
def test_an_index_from_somebody_else_is_data_and_checked(store: ArtifactStore, text: str) -> None:
    path = publish(store, TeacherConfig())
    expected = store.entries("teacher")
    rows = [[path.name, record_stat(path), "k"]]
    text = text.replace("ROWS", json.dumps(rows)).replace("STAT", json.dumps(record_stat(path)))
    text = text.replace("CODE", written_with()).replace("NAME", path.name)
    (store.root / FOLDER / "teachers.json").write_text(text)
    assert store.entries("teacher") == expected


def test_a_store_that_cannot_be_written_is_listed(store: ArtifactStore) -> None:
    publish(store, TeacherConfig())
    (store.root / FOLDER).write_text("a file stands where the folder would")
    assert [entry.key for entry in store.entries("teacher")] == [key(TeacherConfig())]


def test_numbers_that_no_run_writes_are_no_numbers(store: ArtifactStore) -> None:
    publish(store, TeacherConfig(), data={}, provenance={"seconds": "long"})
    (entry,) = listed(store.root)
    assert (entry.seconds, entry.shape, entry.current) == (None, (), True)


def test_rows_of_other_code_are_not_believed(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, TeacherConfig())
    assert [entry.current for entry in store.entries("teacher")] == [True]
    monkeypatch.setitem(STAGES, "teacher", replace(STAGES["teacher"], version=2))
    assert [entry.current for entry in store.entries("teacher")] == [False]


def test_names_that_end_like_a_key(tmp_path: Path) -> None:
    for name in ("a-01234567", "b-01239999", "c", "no-record-01234567"):
        (tmp_path / name).mkdir()
        if not name.startswith("no"):
            (tmp_path / name / RECORD).write_text("{}")
    assert [name for name, _ in published(tmp_path)] == ["a-01234567", "b-01239999", "c"]
    assert [name for name, _ in published(tmp_path, "0123")] == ["a-01234567", "b-01239999"]
    assert [name for name, _ in published(tmp_path, "01234567" + "8" * 56)] == ["a-01234567"]
    assert list(published(tmp_path / "nothing")) == []


def test_what_costs_alike_is_of_one_kind() -> None:
    teacher = TeacherConfig()
    assert cost_group(teacher) == cost_group(teacher.replace(seed=3).with_loss(smoothing=0.1))
    assert cost_group(teacher) != cost_group(StudentConfig(loss={"alpha": 0}))
    assert cost_group(teacher) != cost_group(teacher.replace(data=DataConfig(limit=5)))
    cache = CacheConfig(teacher=teacher)
    assert cost_group(cache) == cost_group(cache.replace(teacher=teacher.replace(seed=3)))
    assert cost_group(cache) != cost_group(cache.replace(dtype="float32"))
    reports = [ReportConfig(experiment=name, source="", scale="quick", data="", analyses=()) for name in "ab"]
    assert cost_group(reports[0]) != cost_group(reports[1])


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_an_index_that_is_no_file_is_not_read(store: ArtifactStore, make: Callable[[Path], None]) -> None:
    path = publish(store, TeacherConfig())
    (store.root / FOLDER).mkdir()
    make(store.root / FOLDER / "teachers.json")
    assert [entry.name for entry in store.entries("teacher")] == [path.name]
