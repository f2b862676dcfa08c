"""`--config`: settings of a file or an artifact are the defaults of the flags; they grant no plug-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.cli.stage_flags import parse_config
from distill.config import (
    CacheConfig,
    Config,
    DataConfig,
    LossConfig,
    OptimConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system import trust
from tests.cli.commands import fail
from tests.store.records import publish

RECIPE = TeacherConfig(seed=3, optim=OptimConfig(lr=0.05), loss=LossConfig(alpha=0, smoothing=0.2))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: ArtifactStore) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_STORE", str(store.root))


def config_of(command: str, *arguments: str) -> Config:
    return parse_config(command, [*arguments])[0]


@pytest.mark.parametrize(
    "text",
    [
        "seed = 3\noptim.lr = 0.05\n[loss]\nsmoothing = 0.2\n",
        "seed = 3\nlr = 0.05\nsmoothing = 0.2\n",
        '{"seed": 3, "optim": {"lr": 0.05}, "loss": {"smoothing": 0.2}}',
    ],
)
def test_a_file_gives_the_defaults_and_flags_win(text: str) -> None:
    Path("mine.toml").write_text(text)
    assert config_of("teacher", "--config", "mine.toml") == RECIPE
    assert config_of("teacher", "--seed", "4", "--config=mine.toml") == RECIPE.replace(seed=4)


def test_an_artifact_is_made_again_but_for_what_flags_change(store: ArtifactStore) -> None:
    teacher = publish(store, RECIPE)
    copy = Path("a.json")
    copy.write_bytes((teacher / "record.json").read_bytes())
    key = json.loads(copy.read_text())["key"]
    for name in (teacher, teacher / "record.json", copy, key[:8]):
        assert config_of("teacher", "--config", str(name), "--epochs", "2").seed == 3
        assert config_of("teacher", "--config", str(name)) == RECIPE
    swept = config_of("sweep-smoothing", "--config", str(teacher), "--seeds", "2")
    assert isinstance(swept, SweepConfig)
    assert (swept.teacher, swept.seeds) == (RECIPE.with_loss(smoothing=0), 2)
    again = config_of("sweep-smoothing", "--config", str(publish(store, swept)), "--bins", "10")
    assert again == swept.replace(bins=10)
    assert "a student, this is a teacher" in _refused("student", "--config", str(teacher))


def test_a_cache_and_a_student_keep_or_change_their_inputs(store: ArtifactStore) -> None:
    teacher, other = publish(store, RECIPE), publish(store, RECIPE.replace(seed=9))
    cache = CacheConfig(teacher=RECIPE, view_seed=5)
    made = publish(store, cache)
    assert config_of("cache", "--config", str(made), "--dtype", "float32") == cache.replace(dtype="float32")
    changed = config_of("cache", "--config", str(made), "--teacher", str(other))
    assert changed == cache.replace(teacher=RECIPE.replace(seed=9))
    Path("mine.toml").write_text(f'teacher = "{teacher}"\nview_seed = 5\n')
    assert config_of("cache", "--config", "mine.toml") == cache
    student = StudentConfig(cache=cache, seed=7)
    of_cache = publish(store, student)
    assert config_of("student", "--config", str(of_cache), "--temperature", "2").loss.temperature == 2
    alone = publish(store, StudentConfig(loss=LossConfig(alpha=0), seed=7))
    assert config_of("student", "--config", str(alone), "--cache", str(made)) == student


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optim.lrr = 1", "mine.toml, optim.lrr = 1: expected a field of this config. Perhaps you meant: optim.lr"),
        ("device = 'cpu'", "mine.toml, device = 'cpu': expected a field of this config."),
        ("trust = true", "mine.toml, trust = True: expected a field of this config."),
        ("config = 'other'", "mine.toml, config = 'other': expected a field"),
        ("data.content = 'x'", "mine.toml, data.content = 'x': expected a field"),
        ("optim.lr = 'fast'", "mine.toml, optim.lr = 'fast': expected a valid number."),
        ("optim = 3", "mine.toml, optim = 3: expected a field of this config. Perhaps you meant: optim."),
        (
            '{"key": 1, "config": {"stage": "teacher", "seed": -1}}',
            "mine.toml, seed = -1: expected greater",
        ),
        ("optim.lr = nan", "mine.toml, optim.lr = nan: expected a finite number."),
        ("seed = ", "--config = 'mine.toml: Invalid value"),
        ('{"seed": 1, "seed": 2}', "the key 'seed' twice"),
        ("a." * 5000 + "b = 1", "mine.toml, a = 'a table'"),
    ],
)
def test_a_mistake_in_a_file_names_it(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(text)
    assert told in fail(capsys, "teacher", "--config", "mine.toml")


def test_a_plugin_that_only_a_file_names_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "current", trust.Trusted())
    Path("evil.py").write_text("open('ran', 'w')\n")
    for text in (
        'model.name = "evil:net"',
        'model = "evil:net"',
        'data = "evil:net"',
        'augment.program = "evil:f"',
    ):
        Path("mine.toml").write_text(text)
        told = fail(capsys, "teacher", "--config", "mine.toml", "--device", "cpu")
        assert "a plug-in that you trust" in told
        assert "'mine.toml' names it" in told
        assert "--trust" in told
    assert not Path("ran").exists()


def test_what_is_no_file_and_no_artifact_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "a path or a key, none fits" in fail(capsys, "teacher", "--config", "nowhere.toml")


def test_data_that_an_artifact_names_are_looked_up_anew(store: ArtifactStore) -> None:
    own = TeacherConfig(data=DataConfig(name="mnist", content="a" * 64))
    made = publish(store, own)
    assert config_of("teacher", "--config", str(made)).data.content is None


def _refused(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        config_of(*arguments)
    return str(error.value)
