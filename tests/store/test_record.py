"""Check that changed and malformed records are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.config import TeacherConfig
from distill.errors import UserError
from distill.store.record import RECORD
from distill.store.store import ArtifactStore
from tests.store.records import publish_draft, sealed

pytestmark = pytest.mark.fault("a damaged file in a store")


def test_a_record_that_was_edited_is_refused_and_one_sealed_again_is_a_problem(store: ArtifactStore) -> None:
    made = publish_draft(store, TeacherConfig())
    record = json.loads((made.path / RECORD).read_text())
    record["config"]["loss"]["smoothing"] = 0.3
    without = {name: value for name, value in record.items() if name != "seal"}
    for edited in (record, without, record | {"seal": ""}):
        (made.path / RECORD).write_text(json.dumps(edited))
        with pytest.raises(UserError, match=r"it was changed\. Delete this folder"):
            store.read(made.path)
    (made.path / RECORD).write_bytes(sealed(record))
    assert any("key" in problem for problem in store.read(made.path).problems())


def test_what_is_not_ours_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=RECORD):
        store.read(tmp_path)
    for text in ("{", '{"key": 1}', '{"__reduce__": "os.system"}'):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(UserError, match="a record that this version can read"):
            store.read(tmp_path)
