"""Check that a stage runs once, and only on inputs that are whole."""

from __future__ import annotations

import threading

import pytest

from distill.errors import UserError
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from tests.made import make


def test_eight_who_want_the_same_artifact_get_one(teacher, store, runtime) -> None:
    made: list[Artifact] = []
    threads = [threading.Thread(target=lambda: made.append(run_stage(teacher, store, runtime))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len({artifact.record.provenance["seconds"] for artifact in made}) == 1


def test_a_damaged_upstream_is_not_read(student, store, runtime) -> None:
    cached = make(student.cache, store, runtime)
    (path,) = (cached.path / "logits").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01"[:1])
    with pytest.raises(UserError, match="sha256 differs"):
        make(student, store, runtime)
    assert store.find(student) is None
