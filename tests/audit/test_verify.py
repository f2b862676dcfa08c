"""Check that verify judges artifacts only, and that a repair deletes nothing of the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.audit.verify import examine, repair
from distill.config import TeacherConfig
from distill.errors import UserError
from distill.store.store import ArtifactStore
from tests.store.records import publish

pytestmark = pytest.mark.fault("files of others in a store")


def test_folders_of_others_are_not_judged(store: ArtifactStore) -> None:
    made = publish(store, TeacherConfig())
    lost = made.with_name(f"{made.name[:-8]}01234567")
    lost.mkdir()
    for name in ("lost+found", ".snapshot", ".Trash-1000", "@eaDir", ".git", "#recycle", "mine"):
        made.with_name(name).mkdir()
        (made.with_name(name) / "record.json").write_text("{}")
    found = {each.path: each.problems for each in examine(store)}
    assert sorted(found) == sorted([made, lost])
    assert found[made] == []
    assert "unless it is yours" in found[lost][0]


def test_a_repair_does_not_delete_notes(store: ArtifactStore, runtime) -> None:
    made = publish(store, TeacherConfig())
    (made / "weights").write_text("damaged")
    notes = made / "sub" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    (examined,) = examine(store)
    with pytest.raises(UserError, match=r"not sub/notes.txt. Move what is yours"):
        repair(examined, store, runtime)
    assert notes.read_text() == "mine"


def test_a_repair_names_both_stores(store: ArtifactStore, runtime, tmp_path: Path) -> None:
    publish(store, TeacherConfig())
    (examined,) = examine(store)
    with pytest.raises(UserError, match=rf"the store {tmp_path}/other\. Set `store={store.root}`"):
        repair(examined, ArtifactStore(tmp_path / "other"), runtime)
