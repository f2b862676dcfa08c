"""Check what changes a key, what does not, and what must raise the version of a stage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import create_model
from pydantic.fields import FieldInfo

from distill.config import (
    SOFT_TERMS,
    TOWARDS,
    AdoptedConfig,
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
    PreprocessingConfig,
    ReportConfig,
    ScheduleConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
    parse_stage,
)
from distill.metrics import measures
from distill.store.key import key
from distill.store.stages import STAGES

ROOT = Path(__file__).parents[2]
TEACHER, OF_LABELS = TeacherConfig(), StudentConfig(loss=LossConfig(alpha=0))
ADOPTED = AdoptedConfig(
    sha256="0" * 64,
    model=ModelConfig(name="timm:test_resnet"),
    preprocessing=PreprocessingConfig(mean=(0.5,), std=(0.5,), height=8, width=8),
    outputs=10,
)
CONFIGS: dict[str, StageConfig] = {
    "teacher": TEACHER,
    "adopted": ADOPTED,
    "cache": CacheConfig(),
    "student": OF_LABELS,
    "calibration": CalibrationConfig(network=TEACHER),
    "analysis": AnalysisConfig(runs=(TEACHER, OF_LABELS)),
    "sweep": SweepConfig(),
    "report": ReportConfig(experiment="e", source="s", scale="smoke", data="digits", analyses=()),
}
RECORDED = Path(__file__).with_name("defaults.json")
"""Golden keys, versions of stages, defaults of every field of every config and of every argument of a loss."""
RECORD_ANEW = "if it is meant, run `python tests/store/test_key.py`, which writes defaults.json anew"


def keys_today() -> dict[str, str]:
    """Compute the golden keys, without the names of measures, so that a measure may be added to the list."""
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            patch.setitem(STAGES, name, replace(stage, measures_of=()))
        return {stage: key(config)[:16] for stage, config in CONFIGS.items()}


def test_golden_keys() -> None:
    """A changed key makes every artifact in the world a miss: it must be seen in a diff."""
    assert keys_today() == recorded()["keys"], RECORD_ANEW


def test_a_new_measure_changes_the_keys_of_those_who_compute_it_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {stage: key(config) for stage, config in CONFIGS.items()}
    listed = (*measures.MEASURES, measures.Measure("added", of="answers", compute="accuracy:accuracy", usual=True))
    monkeypatch.setattr(measures, "MEASURES", listed)
    monkeypatch.setattr("distill.store.key._KEYS", {})
    for name, stage in STAGES.items():
        monkeypatch.setitem(STAGES, name, replace(stage))
    changed = {stage for stage, config in CONFIGS.items() if key(config) != before[stage]}
    assert changed == {"analysis", "sweep", "calibration"}
    assert key(CONFIGS["report"].replace(analyses=(CONFIGS["analysis"],))) != before["report"]


def test_a_stage_has_every_measure_of_the_kinds_that_its_code_computes() -> None:
    """Each kind in a `compute(…)` of the stage, or of a probe for an analysis, is in `measures_of`."""
    for stage in STAGES.values():
        files = [ROOT / f"{stage.run.partition(':')[0].replace('.', '/')}.py"]
        files += (ROOT / "distill/probes").glob("*.py") if stage.name == "analysis" else []
        calls = re.findall(r"(?:of_kind|usual)\(([^)]*)\)", "".join(file.read_text() for file in files))
        assert {*re.findall(r'"([^"]+)"', "".join(calls))} <= {*stage.measures_of}, stage.name


def test_every_stage_has_a_golden_key() -> None:
    assert list(CONFIGS) == list(STAGES)


def configs_in(annotation: Any) -> Iterator[type[Config]]:
    """Yield the config classes that a type names, in unions, tuples and beside metadata too."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in get_args(annotation):
        yield from configs_in(part)


def parts_of(kind: type[Config]) -> Iterator[type[Config]]:
    """Yield a config class and those that its fields can hold, but not the stages that are its inputs."""
    yield kind
    for field in kind.model_fields.values():
        for part in configs_in(field.annotation):
            if part not in INPUTS:
                yield from parts_of(part)


INPUTS = {stage.config for stage in STAGES.values()}
TABLES: dict[str, tuple[type[Config], dict[str, Any]]] = {
    "soft terms": (LossConfig, {term.name: term.defaults for term in SOFT_TERMS.values()}),
    "towards": (LabelsConfig, {name: each.defaults for name, each in TOWARDS.items()}),
}
"""Defaults that stand in lists beside the configs, and the config whose `kwargs` they complete."""


def defaults_today() -> dict[str, dict[str, Any]]:
    """Map each class, or list of arguments, to its defaults by name."""
    known: dict[str, dict[str, Any]] = {}
    for stage in STAGES.values():
        for kind in parts_of(stage.config):
            known[kind.__name__] = {name: default_of(field) for name, field in kind.model_fields.items()}
    return known | {name: table for name, (_, table) in TABLES.items()}


def default_of(field: FieldInfo) -> Any:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Config):  # what its holder puts there, beside the defaults of its class
        return default.model_dump(mode="json", exclude_defaults=True)
    return json.loads(json.dumps(default))


def holders(name: str) -> set[str]:
    """Return the stages whose numbers depend on a default of this class or list."""
    name = TABLES[name][0].__name__ if name in TABLES else name
    return {stage.name for stage in STAGES.values() if name in {kind.__name__ for kind in parts_of(stage.config)}}


def complaints(recorded: dict[str, Any], today: dict[str, dict[str, Any]]) -> list[str]:
    """List defaults that changed although no stage that depends on them has a new version."""
    return [
        f"the default of {name}.{field} changed: raise the version of {stage} in STAGES"
        for name, fields in recorded["defaults"].items()
        for field, value in fields.items()
        if today.get(name, {}).get(field, "gone") != value
        for stage in sorted(holders(name))
        if STAGES[stage].version <= recorded["versions"][stage]
    ]


def test_who_changes_a_default_raises_the_version() -> None:
    """A default is no part of a key, so a changed default without a new version would find old artifacts."""
    assert complaints(recorded(), defaults_today()) == []


@pytest.mark.parametrize(
    ("name", "field", "stages"),
    [
        ("KnowledgeProbe", "images", {"analysis"}),
        ("EnsembleConfig", "mean", {"cache"}),
        ("OptimConfig", "clip", {"student", "teacher"}),
        ("LabelsConfig", "hold", {"student", "teacher"}),
        ("soft terms", "dkd", {"student", "teacher"}),
        ("CacheConfig", "views", {"cache"}),
    ],
)
def test_a_default_that_changes_is_found_wherever_it_stands(name: str, field: str, stages: set[str]) -> None:
    before = recorded()
    before["defaults"][name][field] = "another"
    told = complaints(before, defaults_today())
    assert {text.split("version of ")[1].split()[0] for text in told} == stages
    del before["defaults"][name][field]
    assert complaints(before, defaults_today()) == [], "a field that was added"


def test_recorded_defaults_are_those_of_today() -> None:
    assert recorded() == recorded_today(), RECORD_ANEW


def test_a_field_that_is_added_changes_no_key() -> None:
    later = create_model("Later", __base__=TeacherConfig, added=(int, 3))
    assert key(later()) == key(TEACHER)
    assert key(later(seed=4)) == key(TEACHER.replace(seed=4))
    assert key(later(added=4)) != key(TEACHER)
    views = create_model("LaterViews", __base__=AugmentConfig, added=(int, 3))
    assert key(TEACHER.replace(augment=views(pad=2))) == key(TEACHER.replace(augment=AugmentConfig(pad=2)))


def test_what_a_default_is_depends_on_who_holds_it() -> None:
    """The default alpha is 0 for a teacher and 1 for a student; writing it out changes no key."""
    assert key(TeacherConfig(loss=LossConfig(alpha=0))) == key(TEACHER)
    student = StudentConfig(cache=CacheConfig())
    assert key(student.replace(loss=LossConfig(alpha=1))) == key(student)
    assert key(student.replace(loss=LossConfig(alpha=0))) != key(student)


CHANGES: dict[str, Config] = {
    "data.label_noise": TEACHER.replace(data=DataConfig(label_noise=0.1)),
    "data.noise": TEACHER.replace(data=DataConfig(label_noise=0.1, noise="pair")),
    "data.kwargs": TEACHER.replace(data=DataConfig(name="imagefolder:x", kwargs={"size": 3})),
    "data.balanced": TEACHER.replace(data=DataConfig(balanced=True)),
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
    "loss.class_weights": TEACHER.with_loss(class_weights="balanced"),
    "a list of loss.class_weights": TEACHER.with_loss(class_weights=(1, 2)),
    "a source": TEACHER.replace(
        loss=LossConfig(alpha=0, smoothing=0.1, labels=LabelsConfig(towards="similar")), smoothing_source=TEACHER
    ),
    "begun with another": TEACHER.replace(init=TEACHER),
    "begun with a student": TEACHER.replace(init=OF_LABELS),
    "an adopted network": ADOPTED,
    "weights only": ADOPTED.replace(only_weights=True),
    "other weights": ADOPTED.replace(sha256="1" * 64),
    "averaged weights": ADOPTED.replace(ema=True),
    "other columns": ADOPTED.replace(outputs=12, columns=tuple(range(10))),
    "another preprocessing": ADOPTED.replace(preprocessing=ADOPTED.preprocessing.replace(crop=0.5)),
    "student": OF_LABELS,
    "student of a cache": StudentConfig(cache=CacheConfig()),
    "views": StudentConfig(cache=CacheConfig(augment=AugmentConfig(pad=1), views=2), views=1),
    "cache": CacheConfig(),
    "cache of an ensemble": CacheConfig(teacher=EnsembleConfig(members=(TEACHER, TEACHER.replace(seed=1)))),
    "cache of another order": CacheConfig(teacher=EnsembleConfig(members=(TEACHER.replace(seed=1), TEACHER))),
    "cache of an adopted network": CacheConfig(teacher=ADOPTED),
    "cache of a file": CacheConfig(teacher=ImportConfig(sha256=("0",), classes=("a", "b"))),
    "cache of a softened file": CacheConfig(
        teacher=ImportConfig(sha256=("0",), classes=("a", "b"), values="probabilities", temperature=4)
    ),
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
    assert unchanged == {"adopted", "student", "report"}, "these have no teacher here"
    distilled = StudentConfig(cache=CacheConfig())
    assert key(distilled) != key(OF_LABELS)
    monkeypatch.setitem(STAGES, "cache", replace(STAGES["cache"], version=98))
    assert key(CalibrationConfig(network=distilled)) != key(CalibrationConfig(network=OF_LABELS))


def recorded() -> dict[str, Any]:
    return json.loads(RECORDED.read_text())


def recorded_today() -> dict[str, Any]:
    versions = {stage.name: stage.version for stage in STAGES.values()}
    return {"keys": keys_today(), "versions": versions, "defaults": defaults_today()}


if __name__ == "__main__":
    if RECORDED.exists() and (complained := complaints(recorded(), defaults_today())):
        raise SystemExit("\n".join(complained))
    RECORDED.write_text(json.dumps(recorded_today(), indent=1) + "\n", encoding="utf-8")
