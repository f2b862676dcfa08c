"""Check that an input that is named by a path is the one that a run takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distill.cli.stage_flags import parse_config
from distill.config import RECIPES, CacheConfig, StudentConfig, SweepConfig, TeacherConfig
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


def test_a_recipe_sets_what_no_flag_and_no_settings_file_says(store: ArtifactStore, tmp_path: Path) -> None:
    recipe, where = ["--recipe", "cifar240"], ["--store", str(store.root)]
    config, _ = parse_config("teacher", [*recipe, "--epochs", "24", "--lr", "0.1", *where])
    plain = RECIPES["cifar240"].applied_to(TeacherConfig(), 24)
    expected = plain.replace(optim=plain.optim.replace(lr=0.1))
    assert config == expected, "the record holds the settings and no name of a recipe"
    assert expected.schedule.decay_epochs == (15, 18, 21)

    file = tmp_path / "mine.toml"
    file.write_text('recipe = "cifar240"\nepochs = 24\nlr = 0.1\n', encoding="utf-8")
    assert parse_config("teacher", ["--config", str(file), *where])[0] == expected
    swept, _ = parse_config("sweep-smoothing", [*recipe, *where])
    assert isinstance(swept, SweepConfig)
    assert swept.teacher == RECIPES["cifar240"].applied_to(TeacherConfig())


def test_a_recipe_replaces_the_settings_of_an_artifact_and_leaves_its_views_to_a_cache(
    store: ArtifactStore,
) -> None:
    where = ["--store", str(store.root)]
    teacher = publish(store, TeacherConfig(seed=3))
    again, _ = parse_config("teacher", ["--config", str(teacher), "--recipe", "cifar240", *where])
    assert again == RECIPES["cifar240"].applied_to(TeacherConfig(seed=3))
    cache = publish(store, CacheConfig())
    student, _ = parse_config("student", ["--cache", str(cache), "--recipe", "cifar240", *where])
    assert student == RECIPES["cifar240"].applied_to(StudentConfig(cache=CacheConfig()))
    alone, _ = parse_config("student", ["--recipe", "cifar240", *where])
    assert isinstance(alone, StudentConfig)
    assert alone.augment == RECIPES["cifar240"].augment


def test_an_unknown_recipe_and_impossible_lengths_are_refused() -> None:
    with pytest.raises(UserError, match=r"^recipe = 'cifar': expected 'cifar240'"):
        parse_config("teacher", ["--recipe", "cifar"])
    for epochs in ("0", "x", "9" * 400):
        with pytest.raises(UserError, match=r"^schedule\.epochs = "):
            parse_config("teacher", ["--recipe", "cifar240", "--epochs", epochs])
