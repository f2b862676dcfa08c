"""Records and manifests that somebody made up: one line, in bounded time and memory."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest

from distill.audit.verify import examine
from distill.cache.logit_cache import LogitCache
from distill.cache.manifest import read_manifest
from distill.cli.main import main
from distill.config import AugmentConfig, CacheConfig, TeacherConfig
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.record import RECORD
from distill.store.stages import title
from tests.security.sent import TINY, line_of, published
from tests.store.records import sealed

pytestmark = pytest.mark.fault("hostile archives, weights, arrays and records")


def nested(depth: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"stage": "teacher", "seed": 1}
    for _ in range(depth):
        fields = {
            "stage": "teacher",
            "loss": {"alpha": 0, "smoothing": 0.1, "labels": {"towards": "similar"}},
            "smoothing_source": fields,
        }
    return fields


@pytest.mark.parametrize("depth", [17, 90, 10_000])
def test_a_config_of_thousands_of_teachers_is_refused_in_one_line(store, depth):
    made = published(store)
    text = (made.path / RECORD).read_text()
    record = json.loads(text) | {"config": nested(min(depth, 90))}
    text = json.dumps(record)
    if depth > 90:  # deeper than json would write
        innermost = json.dumps({"stage": "teacher", "seed": 1})
        text = text.replace(innermost, '{"smoothing_source":' * depth + "{}" + "}" * depth)
    # A record whose seal fits is read as far as its config; json cannot write the deepest one, nor seal it.
    (made.path / RECORD).write_bytes(sealed(record) if depth <= 90 else text.encode())
    started = time.monotonic()
    with pytest.raises(UserError, match="a record that this version can read") as error:
        store.read(made.path)
    line_of(error.value)
    assert time.monotonic() - started < 5
    assert store.find(TeacherConfig(seed=9)) is None


def test_so_many_sources_as_are_allowed_work_everywhere(store):
    from distill.config import parse_stage
    from distill.pipeline.graph import missing

    config = parse_stage(nested(16))
    assert len(missing([config], store)) == 17
    assert title(config)


ODD_NAMES = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a\\b",
    "C:x",
    "a\nb",
    "\x1b[2J",
    "a//b",
    "",
    ".",
    "\u202egnp.exe",
    "x" * 5000,
    "a\0b",
)


def edited(made: Artifact, **changes: Any) -> None:
    record = json.loads((made.path / RECORD).read_text()) | changes
    (made.path / RECORD).write_bytes(sealed(record))


@pytest.mark.parametrize("name", ODD_NAMES)
def test_records_that_name_files_elsewhere_are_refused(store, name):
    made = published(store, model_safetensors=b"x")
    edited(made, files={name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(UserError, match="a record that this version can read") as error:
        store.read(made.path)
    line_of(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "\x1b]0;title\x07"},
        {"key": "0" * 63},
        {"key": "../../x"},
        {"inputs": {"x": "y"}},
        {"files": {"a": {"sha256": "x", "bytes": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "bytes": -1}}},
        {"metrics": {"a": "b"}},
        {"config": {"stage": "\x1b[31m" * 10_000}},
        {"config": {"stage": "teacher", "\x1b[31m" * 10_000: 1}},
        {"config": []},
        {"data": 3},
    ],
)
def test_records_that_say_what_none_says_are_refused(store, changes, capsys):
    made = published(store)
    edited(made, **changes)
    with pytest.raises(UserError) as error:
        store.read(made.path)
    line_of(error.value)
    assert [each.path for each in examine(store) if each.artifact is None] == [made.path]
    for command in ("ls", "verify"):
        with suppress(SystemExit):
            main([command, "--store", str(store.root)])
        said = capsys.readouterr()
        assert all(line.isprintable() for line in (said.out + said.err).splitlines())


def test_a_record_of_another_artifact_is_a_miss(store):
    one, other = published(store), TINY.replace(seed=1)
    store.path(other).mkdir()
    (store.path(other) / RECORD).write_bytes((one.path / RECORD).read_bytes())
    assert store.find(other) is None


@pytest.mark.parametrize(
    "data", [{"classes": 5}, {"classes": []}, {"shape": [1, "x", 2]}, {"mean": "x"}, {"sizes": []}]
)
def test_a_record_of_images_that_cannot_be_is_one_line(store, data):
    path = published(store).path / RECORD
    path.write_bytes(sealed(json.loads(path.read_text()) | {"data": data}))
    with pytest.raises(UserError, match="a record that this version can read") as error:
        store.read(path.parent)
    line_of(error.value)


def test_what_a_record_does_not_say_of_its_images_is_one_line(store):
    with pytest.raises(UserError, match=r"no data\.mean") as error:
        published(store).data["mean"]
    line_of(error.value)


def manifest(**changes: Any) -> bytes:
    """Of a cache of one shard, with other values at these paths."""
    images = {
        "name": "digits",
        "classes": ["a", "b"],
        "samples": 5,
        "fingerprint": "",
        "order": None,
        "content": None,
    }
    teacher = {
        "title": "",
        "key": "",
        "weights": "",
        "mean": [0],
        "std": [1],
        "size": [1, 8, 8],
        "interpolation": "",
    }
    fields: dict[str, Any] = {
        "teachers": [teacher],
        "source": {"kind": "teacher"},
        "data": images | changes.pop("data", {}),
        "views": {"augment": {}, "views": 1, "seed": 0} | changes.pop("views", {}),
        "storage": {"dtype": "float16", "top_k": None, "rows_per_shard": 65_536},
        "libraries": {},
    }
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"classes": []}},
        {"data": {"samples": -5}},
        {"data": {"samples": 10**13}},
        {"views": {"augment": {"pad": "x"}}},
        {"views": {"augment": {"unknown": 1}}},
        {"teachers": []},
    ],
)
def test_a_manifest_that_no_cache_of_its_record_can_have_is_one_line(store, changes):
    with pytest.raises(UserError) as error:
        LogitCache(published(store, CacheConfig(teacher=TINY), manifest_json=manifest(**changes)))
    line_of(error.value)


def test_fields_that_a_manifest_leaves_out_of_its_views_are_the_usual_ones(store):
    cache = LogitCache(published(store, CacheConfig(teacher=TINY), manifest_json=manifest()))
    assert cache.manifest.views.augment == AugmentConfig().model_dump(mode="json")


@pytest.mark.parametrize(
    "content", [b"{}", b'{"format": 1}', b"[]", b"[" * 10_000, b'{"data": {"samples": 1e300}}']
)
def test_a_manifest_that_is_none_is_one_line(tmp_path, store, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_manifest(tmp_path / "manifest.json")
    line_of(error.value)
    with pytest.raises(UserError):
        LogitCache(published(store, CacheConfig(teacher=TINY), manifest_json=content))
