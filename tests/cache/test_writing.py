"""Test how a cache is written: the gate, a full disk, and what an interrupted one keeps."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from distill.cache.manifest import MANIFEST
from distill.cache.shards import SHARDS, Piece, Shard
from distill.cache.teacher_logits import TeacherLogits
from distill.config import CacheConfig
from distill.errors import UnfitTeacher, UserError
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from tests.cache.caches import findings
from tests.made import make


def interrupted(config: CacheConfig, store: ArtifactStore, runtime: Runtime) -> Path:
    """Return the draft of a cache that was killed before its record was written."""
    whole = make(config, store, runtime)
    with store.draft(config) as draft:
        shutil.copytree(whole.path, draft, dirs_exist_ok=True)
    (draft / "record.json").unlink()
    shutil.rmtree(whole.path)
    return draft


def made_again(config: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch) -> list[int]:
    """Make the cache, and return the views whose shards are written."""
    asked: list[int] = []
    of_shard = TeacherLogits.of_shard
    with monkeypatch.context() as patch:
        patch.setattr(TeacherLogits, "of_shard", lambda t, s: asked.append(s.view) or of_shard(t, s))
        make(config, store, runtime)
    return asked


def test_an_interrupted_draft_is_taken_up(shifted: CacheConfig, store, runtime, monkeypatch) -> None:
    interrupted(shifted, store, runtime)
    assert made_again(shifted, store, runtime, monkeypatch) == []


def test_rows_of_another_teacher_are_not(shifted: CacheConfig, store, runtime, monkeypatch) -> None:
    draft = interrupted(shifted, store, runtime)
    manifest = json.loads((draft / MANIFEST).read_text())
    manifest["teachers"][0]["weights"] = "0" * 64
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1))
    assert made_again(shifted, store, runtime, monkeypatch) == [0, 1, 2]


def test_nor_are_rows_that_the_teacher_would_not_give_now(
    shifted: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch
) -> None:
    # As when the code of a view program was edited, which no manifest can hold.
    draft = interrupted(shifted, store, runtime)
    shard = next((draft / "logits").glob("view0001*"))
    rows = np.load(shard)
    rows["logits"] += np.float16(1)
    np.save(shard, rows)
    stamps = json.loads((draft / SHARDS).read_text())
    stamps[f"logits/{shard.name}"]["sha256"] = hashlib.sha256(shard.read_bytes()).hexdigest()
    (draft / SHARDS).write_text(json.dumps(stamps))
    assert made_again(shifted, store, runtime, monkeypatch) == [1]
    assert all(findings(store.find(shifted), store, runtime).values())


def test_a_mistake_in_a_later_call_costs_no_finished_shard(
    shifted: CacheConfig, store: ArtifactStore, runtime: Runtime, monkeypatch
) -> None:
    of_shard = TeacherLogits.of_shard

    def stop(teacher: TeacherLogits, shard: Shard) -> Iterator[Piece]:
        if shard.view == 2:
            raise KeyboardInterrupt
        yield from of_shard(teacher, shard)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherLogits, "of_shard", stop)
        with pytest.raises(KeyboardInterrupt):
            make(shifted, store, runtime)
    with pytest.raises(UnfitTeacher):
        make(shifted, store, runtime.model_copy(update={"min_teacher_accuracy": 1.0}))
    assert made_again(shifted, store, runtime, monkeypatch) == [2]


def test_answers_that_change_from_call_to_call_are_refused(shifted, store, runtime, monkeypatch) -> None:
    answer = TeacherLogits.answer
    monkeypatch.setattr(TeacherLogits, "answer", lambda *arguments: answer(*arguments) + 1)
    with pytest.raises(UserError, match="cache = 'rows that differ by 1 when they are made again'"):
        make(shifted, store, runtime)
    assert store.find(shifted) is None


def test_a_disk_that_is_too_small_is_refused_before_the_first_row(cache, store, runtime, monkeypatch) -> None:
    monkeypatch.setattr("distill.cache.writing.free_bytes", lambda folder: 1000)
    with pytest.raises(UserError, match=r"store = '1e-06 GB free': expected 2.93e-05 GB for 1 view"):
        make(cache, store, runtime)
