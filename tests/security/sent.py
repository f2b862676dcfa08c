"""Artifacts that somebody can send, and the one line that refuses them."""

from __future__ import annotations

from distill.config import CacheConfig, ModelConfig, TeacherConfig
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import Record
from distill.store.store import ArtifactStore

TINY = TeacherConfig(model=ModelConfig(kwargs={"widths": [8]}))
DATA = {"classes": list("ab"), "shape": [1, 2, 2]}


def published(store: ArtifactStore, config: TeacherConfig | CacheConfig = TINY, **files: bytes) -> Artifact:
    """An artifact with these files, whose record fits them: what somebody can send."""
    with store.draft(config) as draft:
        for name, content in files.items():
            (draft / name.replace("_", ".")).write_bytes(content)
        entries = store.describe_files(draft)
        fields = config.model_dump(mode="json")
        return store.publish(
            config, draft, Record(key=key(config), version=1, config=fields, inputs={}, files=entries, data=DATA)
        )


def line_of(error: BaseException) -> str:
    line = str(error)
    assert line.isprintable()
    assert len(line) < 10_000
    return line
