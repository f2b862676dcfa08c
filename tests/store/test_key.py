"""Keys: what changes them, what does not, and what must raise the version of a stage."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model

from distill.config import (
    SOFT_TERMS,
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    CalibrationConfig,
    Config,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ReportConfig,
    ScheduleConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
    parse_stage,
)
from distill.store.key import _KEYS, key
from distill.store.stages import STAGES

TEACHER, OF_LABELS = TeacherConfig(), StudentConfig(loss=LossConfig(alpha=0))
CONFIGS: dict[str, StageConfig] = {
    "teacher": TEACHER,
    "cache": CacheConfig(),
    "student": OF_LABELS,
    "calibration": CalibrationConfig(network=TEACHER),
    "analysis": AnalysisConfig(runs=(TEACHER, OF_LABELS)),
    "sweep": SweepConfig(),
    "report": ReportConfig(experiment="e", source="s", scale="smoke", data="digits", analyses=()),
}
GOLDEN = {
    "teacher": "695b85443eb1df72",
    "cache": "727744c51b2db0c5",
    "student": "78fbe01f9c552f28",
    "calibration": "c578fb6e9c2cbd29",
    "analysis": "f7461af99dbe3ea8",
    "sweep": "fce8bff4555cabf9",
    "report": "54fd46be44e2e6e2",
}
DEFAULTS = Path(__file__).with_name("defaults.json")
"""Stage → its version, and the default of every field of its config, by dotted name."""


def test_golden_keys() -> None:
    """A changed key makes every artifact in the world a miss: it must be seen in a diff."""
    assert {stage: key(config)[:16] for stage, config in CONFIGS.items()} == GOLDEN


def test_every_stage_has_a_golden_key() -> None:
    assert list(CONFIGS) == list(STAGES)


def defaults(kind: type[Config], prefix: str = "") -> dict[str, Any]:
    """Dotted name → default, of all fields of a config and of those that it holds by default."""
    known: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.default, Config) and not hasattr(field.default, "stage"):
            known |= defaults(type(field.default), f"{prefix}{name}.")
        # What the holder puts there may differ from the defaults of its class: LossConfig(alpha=0) of a teacher.
        value = field.default if not isinstance(field.default, Config) else field.default.model_dump(mode="json")
        known[f"{prefix}{name}"] = "required" if field.is_required() else json.loads(json.dumps(value))
    return known


def test_who_changes_a_default_raises_the_version() -> None:
    """A default is no part of a key: another default would give old artifacts for new numbers."""
    recorded = json.loads(DEFAULTS.read_text())
    for name, stage in STAGES.items():
        if stage.version > recorded[name]["version"]:
            continue
        today = defaults(stage.config)
        for field, value in recorded[name]["defaults"].items():
            if isinstance(value, dict) and isinstance(today.get(field), dict):
                today[field] = {each: today[field][each] for each in value}  # fields may have been added
            assert today.get(field, "no such field") == value, f"{field} of {name}: raise its version in STAGES"


def test_recorded_defaults_are_those_of_today() -> None:
    """After a change that was meant: `python tests/store/test_key.py` writes them anew."""
    assert json.loads(DEFAULTS.read_text()) == recorded_today()


def test_a_field_that_is_added_changes_no_key() -> None:
    later = create_model("Later", __base__=TeacherConfig, added=(int, 3))
    assert key(later()) == key(TEACHER)
    assert key(later(seed=4)) == key(TEACHER.replace(seed=4))
    assert key(later(added=4)) != key(TEACHER)
    views = create_model("LaterViews", __base__=AugmentConfig, added=(int, 3))
    assert key(TEACHER.replace(augment=views(pad=2))) == key(TEACHER.replace(augment=AugmentConfig(pad=2)))


def test_what_a_default_is_depends_on_who_holds_it() -> None:
    """A teacher's loss is of alpha 0 by default, a student's of alpha 1: each written out is the default still."""
    assert key(TeacherConfig(loss=LossConfig(alpha=0))) == key(TEACHER)
    student = StudentConfig(cache=CacheConfig())
    assert key(student.replace(loss=LossConfig(alpha=1))) == key(student)
    assert key(student.replace(loss=LossConfig(alpha=0))) != key(student)


CHANGES: dict[str, Config] = {
    "data.label_noise": TEACHER.replace(data=DataConfig(label_noise=0.1)),
    "data.noise": TEACHER.replace(data=DataConfig(label_noise=0.1, noise="pair")),
    "data.kwargs": TEACHER.replace(data=DataConfig(name="imagefolder:x", kwargs={"size": 3})),
    "data.name": TEACHER.replace(data=DataConfig(name="imagefolder:x")),
    "model.kwargs": TEACHER.replace(model=ModelConfig(kwargs={"widths": [3]})),
    "augment.pad": TEACHER.replace(augment=AugmentConfig(pad=1)),
    "augment.flip": TEACHER.replace(augment=AugmentConfig(flip=True)),
    "optim.clip": TEACHER.replace(optim=OptimConfig(clip=None)),
    "schedule.parts": TEACHER.replace(schedule=ScheduleConfig(parts=2)),
    "seed": TEACHER.replace(seed=1),
    "loss.smoothing": TEACHER.with_loss(smoothing=0.1),
    "loss.smoothing_convention": TEACHER.with_loss(smoothing=0.1, smoothing_convention="others"),
    "loss.labels.schedule": TEACHER.with_loss(smoothing=0.1, labels=LabelsConfig(schedule="linear")),
    "a source": TEACHER.replace(
        loss=LossConfig(alpha=0, smoothing=0.1, labels=LabelsConfig(towards="similar")), smoothing_source=TEACHER
    ),
    "student": OF_LABELS,
    "student of a cache": StudentConfig(cache=CacheConfig()),
    "views": StudentConfig(cache=CacheConfig(augment=AugmentConfig(pad=1), views=2), views=1),
    "cache": CacheConfig(),
    "cache of an ensemble": CacheConfig(teacher=EnsembleConfig(members=(TEACHER, TEACHER.replace(seed=1)))),
    "cache of another order": CacheConfig(teacher=EnsembleConfig(members=(TEACHER.replace(seed=1), TEACHER))),
    "cache of a file": CacheConfig(teacher=ImportConfig(sha256=("0",), classes=("a", "b"))),
    "cache of a file with a name": CacheConfig(
        teacher=ImportConfig(sha256=("0",), classes=("a", "b"), teacher="x")
    ),
}


def test_whatever_differs_changes_the_key() -> None:
    assert len({key(config) for config in [TEACHER, *CHANGES.values()]}) == len(CHANGES) + 1  # pyright: ignore[reportArgumentType]


@given(st.sampled_from(sorted(CHANGES)))
def test_a_config_that_was_written_and_read_has_its_key(name: str) -> None:
    config = CHANGES[name]
    assert key(parse_stage(json.loads(json.dumps(config.model_dump(mode="json"))))) == key(config)  # pyright: ignore[reportArgumentType]


def test_the_version_of_a_stage_changes_its_keys_and_those_downstream(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {stage: key(config) for stage, config in CONFIGS.items()}
    monkeypatch.setitem(STAGES, "cache", replace(STAGES["cache"], version=99))
    after = {stage: key(config) for stage, config in CONFIGS.items()}
    assert {stage for stage in before if before[stage] != after[stage]} == {"cache"}
    monkeypatch.setitem(STAGES, "teacher", replace(STAGES["teacher"], version=99))
    after = {stage: key(config) for stage, config in CONFIGS.items()}
    unchanged = {stage for stage in before if before[stage] == after[stage]}
    assert unchanged == {"student", "report"}, "these two have no teacher here"
    distilled = StudentConfig(cache=CacheConfig())
    assert key(distilled) != key(OF_LABELS)
    monkeypatch.setitem(STAGES, "cache", replace(STAGES["cache"], version=98))
    assert key(CalibrationConfig(network=distilled)) != key(CalibrationConfig(network=OF_LABELS))


def recorded_today() -> dict[str, Any]:
    return {name: {"version": stage.version, "defaults": defaults(stage.config)} for name, stage in STAGES.items()}


def test_a_key_is_remembered_for_one_config_only_and_as_long_as_it_lives() -> None:
    gc.collect()
    before = len(_KEYS)
    teacher = TeacherConfig()
    first = key(teacher)
    assert len(_KEYS) == before + 1
    assert key(teacher.model_copy(update={"seed": 1})) == key(TeacherConfig(seed=1)) != first
    assert key(teacher) == first == key(TeacherConfig())
    del teacher
    gc.collect()
    assert len(_KEYS) == before


def test_a_remembered_key_is_of_the_versions_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CacheConfig()
    before = key(cache)
    monkeypatch.setitem(STAGES, "teacher", replace(STAGES["teacher"], version=2))
    assert key(cache) != before


def test_soft_terms_and_their_arguments_have_keys_of_their_own(student: StudentConfig) -> None:
    losses = [LossConfig(soft=soft) for soft in SOFT_TERMS]
    losses += [LossConfig(soft="dkd", kwargs={"nontarget": 2}), LossConfig(soft="dkd", kwargs={"target": 2})]
    assert len({key(student.replace(loss=loss)) for loss in losses}) == len(losses)
    again = parse_stage(student.replace(loss=losses[-1]).model_dump(mode="json"))
    assert isinstance(again, StudentConfig)
    assert again.loss == losses[-1]


@given(lr=st.floats(1e-6, 1e3), epochs=st.integers(1, 1000), smoothing=st.floats(0, 0.9))
def test_keys_are_stable_and_tell_apart(lr: float, epochs: int, smoothing: float) -> None:
    base = TeacherConfig(optim=OptimConfig(lr=lr)).with_loss(smoothing=smoothing)
    again = TeacherConfig(optim=OptimConfig(lr=lr)).with_loss(smoothing=smoothing)
    longer = base.replace(schedule=base.schedule.replace(epochs=epochs + 1000))
    assert key(base) == key(again)
    assert key(base) != key(longer)


def test_a_key_depends_on_what_is_upstream(student: StudentConfig) -> None:
    teacher = student.cache.teacher.replace(seed=1)
    other = student.replace(cache=student.cache.replace(teacher=teacher))
    assert key(other) != key(student)
    # … but a sweep over temperatures shares one cache.
    assert key(student.replace(loss=LossConfig(temperature=9)).cache) == key(student.cache)


def test_one_part_leaves_keys_as_they_were() -> None:
    config = TeacherConfig()
    assert key(config) == key(config.replace(schedule=config.schedule.replace(parts=1)))
    assert key(config) != key(config.replace(schedule=config.schedule.replace(parts=2)))


if __name__ == "__main__":
    DEFAULTS.write_text(json.dumps(recorded_today(), indent=1) + "\n", encoding="utf-8")
