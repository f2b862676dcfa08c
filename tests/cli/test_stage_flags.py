"""Check that an input that is named by a path is the one that a run takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distill.cli.stage_flags import parse_config
from distill.config import CacheConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.store.store import ArtifactStore
from tests.store.records import publish


@pytest.mark.fault("another disk, moved and linked folders")
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_an_input_of_another_store_is_refused_with_both_names(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    teacher, cache = publish(store, TeacherConfig()), publish(store, CacheConfig())
    where = ["--store", str(tmp_path / "other")] if by == "flag" else []
    monkeypatch.setenv("DISTILL_STORE", str(tmp_path / "other"))
    for command, flag, path in (
        ("cache", "--teacher", teacher),
        ("student", "--cache", cache),
        ("student", "--smoothing-source", teacher),
    ):
        with pytest.raises(UserError, match=rf"the store {tmp_path}/other\. Set `store={store.root}`"):
            parse_config(command, [flag, f"{path}/", *where])


def test_an_input_under_another_name_is_not_made_again_in_silence(store: ArtifactStore) -> None:
    cache = publish(store, CacheConfig())
    copy = shutil.copytree(cache, cache.with_name("copy"))
    where = ["--store", str(store.root)]
    with pytest.raises(UserError, match=rf"the folder {cache.name}"):
        parse_config("student", ["--cache", str(copy), *where])
    config, _ = parse_config("student", ["--cache", str(cache), *where])
    assert isinstance(config, StudentConfig)
    assert config.cache == CacheConfig()
