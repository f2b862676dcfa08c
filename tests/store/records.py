"""Write artifacts and records without a stage that makes them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.config import StageConfig, TeacherConfig
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD, RESUME, Record
from distill.store.stages import STAGES, inputs
from distill.store.store import ArtifactStore


def sealed(fields: dict[str, Any]) -> bytes:
    """Return the content of a forged record: it has these fields and a seal that fits them."""
    before, name, after = json.dumps(fields | {"seal": ""}, indent=1).rpartition('"seal": "')
    return f"{before}{name}{hashlib.sha256((before + name + after).encode()).hexdigest()}{after}".encode()


@contextmanager
def of_version(config: StageConfig, version: object) -> Iterator[None]:
    """Let the program be the one in which the stage of a config has another version; None leaves it as it is."""
    stage = STAGES[config.stage]
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(version, int):
            patch.setitem(STAGES, config.stage, replace(stage, version=version))
        yield


def publish(store: ArtifactStore, config: StageConfig, /, accuracy: float = 0.5, **fields: object) -> Path:
    """Write an artifact of one small file, without a draft, as the version of the program that `fields` names."""
    with of_version(config, fields.get("version")):
        return _publish(store, config, accuracy, fields)


def _publish(store: ArtifactStore, config: StageConfig, accuracy: float, fields: dict[str, object]) -> Path:
    folder = store.path(config)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"weights of {key(config)}")
    known = {
        "key": key(config),
        "version": STAGES[config.stage].version,
        "config": config.model_dump(mode="json"),
        "inputs": {key(upstream): "" for upstream in inputs(config)},
        "files": store.describe_files(folder),
        "metrics": {"test/accuracy": accuracy},
        "data": {"sizes": {"train": 9, "held_out": 1, "test": 5}, "shape": [1, 8, 8], "classes": ["a", "b"]},
        "provenance": {"seconds": 1.5},
    }
    (folder / RECORD).write_bytes(Record.model_validate(known | fields).sealed())
    return folder


def publish_draft(store: ArtifactStore, config: TeacherConfig) -> Artifact:
    """Publish an artifact of one small file from a draft that has a resume point."""
    with store.draft(config) as draft:
        (draft / "model.safetensors").write_text("weights")
        (draft / RESUME).write_text("state of the optimiser")
        record = Record(
            key=key(config),
            version=1,
            config=config.model_dump(mode="json"),
            inputs={},
            files=store.describe_files(draft),
        )
        return store.publish(config, draft, record)
