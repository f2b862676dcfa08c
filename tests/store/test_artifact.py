from __future__ import annotations

import pytest

from distill.config import TeacherConfig
from distill.errors import UserError
from distill.store.store import ArtifactStore
from tests.store.records import publish_draft

pytestmark = pytest.mark.fault("a damaged file in a store")


@pytest.mark.parametrize("damage", ["change", "truncate", "delete"])
def test_damage_is_found_and_never_read(store: ArtifactStore, damage: str) -> None:
    made = publish_draft(store, TeacherConfig())
    assert made.file("model.safetensors").read_text() == "weights"
    path = made.path / "model.safetensors"
    if damage == "change":
        path.write_text("wEights")
    elif damage == "truncate":
        path.write_text("wei")
    else:
        path.unlink()
    found = store.find(TeacherConfig())
    assert found is not None
    assert len(found.problems()) == 1
    with pytest.raises(UserError, match="Delete the folder"):
        found.file("model.safetensors")
