"""Configs of stages: they survive JSON, and refuse in one line what means nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from distill.config import (
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    ImportFlags,
    LabelsConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
    parse_stage,
)
from distill.errors import UserError
from distill.store.key import key


def test_a_config_survives_json(student: StudentConfig) -> None:
    analysis = AnalysisConfig(runs=(student.cache.teacher, student), reference=student.cache.teacher)
    for config in (student, student.cache, student.cache.teacher, analysis):
        again = parse_stage(config.model_dump(mode="json"))
        assert again == config
        assert key(again) == key(config)


def test_runs_of_an_analysis_keep_the_fields_of_their_own_type(student: StudentConfig) -> None:
    # The trap: a field typed as a base class serialises the base's fields only.
    dumped = AnalysisConfig(runs=(student,)).model_dump(mode="json")["runs"][0]
    assert dumped["loss"]["temperature"] == 4
    assert dumped["cache"]["teacher"]["loss"]["smoothing"] == 0


OF_SOFT: dict[str, dict] = {
    "soft": {"soft": "dkd", "kwargs": {"target": 3}},
    "temperature": {"temperature": 2},
    "temperature_on": {"temperature_on": "teacher"},
}
"""Fields of a soft term that a network without one does not use, by the first that is told."""


@pytest.mark.fault("odd JSON and command lines")
@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (lambda: OptimConfig(lr=-1), "optim.lr", "greater than 0"),
        (lambda: OptimConfig(lr=float("nan")), "optim.lr", "finite"),
        (lambda: TeacherConfig().with_loss(smoothing=1.0), "loss.smoothing", "less than 1"),
        (lambda: TeacherConfig(temperature=3), "temperature", "no such field"),
        (lambda: CacheConfig(views=4), "views", "Set `augment.pad`"),
        (lambda: TeacherConfig(optim={"lr": -1}), "optim.lr", "Its meaning: Peak learning rate."),
        (lambda: TeacherConfig(loss={"labels": {"first": 0.5}}), "loss.labels.first", "0 with the schedule"),
        (lambda: CacheConfig(transfer_set={"name": "no"}), "transfer_set.name", "one of"),
        (
            lambda: CacheConfig(teacher={"stage": "teacher", "data": {"limit": 0}}),
            "teacher.data.limit",
            "None takes",
        ),
        (lambda: StudentConfig(), "loss.alpha", "Give a `cache`"),
        *(
            (partial(StudentConfig, loss=LossConfig(alpha=0, **of_soft)), f"loss.{field}", "Give a `cache`")
            for field, of_soft in OF_SOFT.items()
        ),
        (
            lambda: StudentConfig(cache=CacheConfig(), loss=LossConfig(alpha=0, soft="dkd")),
            "loss.soft",
            "Raise `loss.alpha`",
        ),
        (lambda: TeacherConfig().with_loss(temperature=2), "loss.temperature", "a student has soft targets"),
        (
            lambda: StudentConfig(cache=CacheConfig(), augment=AugmentConfig(flip=True)),
            "augment",
            "views of its cache",
        ),
        (
            lambda: StudentConfig(cache=CacheConfig(), data=DataConfig(name="mnist")),
            "data",
            "the cache's transfer set",
        ),
    ],
)
def test_a_bad_value_names_field_and_way_out(make, field: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert caught.value.field == field
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_balanced_draws_are_no_part_of_a_cache() -> None:
    teacher = TeacherConfig(data=DataConfig(balanced=True))
    cache = CacheConfig(teacher=TeacherConfig(), transfer_set=teacher.data)
    assert cache == CacheConfig()
    assert key(cache) == key(CacheConfig())
    for data in (cache.transfer_set, teacher.data):
        assert StudentConfig(cache=cache, data=data).data == data
    assert parse_stage(StudentConfig(cache=cache, data=teacher.data).model_dump(mode="json")).data.balanced


BALANCED = DataConfig(balanced=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TeacherConfig(data=BALANCED).with_loss(class_weights="balanced"), "correct it twice"),
        (lambda: TeacherConfig(data=BALANCED, augment=AugmentConfig(mixup=0.2)), "false with mixed views"),
        (
            lambda: StudentConfig(data=BALANCED, cache=CacheConfig(augment=AugmentConfig(cutmix=0.2))),
            "false with mixed views",
        ),
    ],
)
def test_what_balanced_draws_do_not_go_with(make, says: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.balanced = True: .*{says}"):
        make()
    TeacherConfig(data=BALANCED).with_loss(class_weights=(1, 2))  # numbers may be for something else


def test_a_sweep_has_each_smoothing_with_each_seed() -> None:
    sweep = SweepConfig(teacher=TeacherConfig(seed=5).with_loss(smoothing=0.7), smoothings=(0.0, 0.2), seeds=2)
    assert sweep.networks() == {
        (smoothing, seed): TeacherConfig(seed=seed).with_loss(smoothing=smoothing)
        for smoothing in (0.0, 0.2)
        for seed in (5, 6)
    }


def test_a_sweep_has_the_network_of_hard_labels_whatever_its_smoothing_does() -> None:
    labels = LabelsConfig(towards="similar", schedule="linear", by_sample="difficulty", confidence_penalty=0.1)
    recipe = TeacherConfig(
        loss=LossConfig(alpha=0, smoothing=0.2, labels=labels), smoothing_source=TeacherConfig(seed=9)
    )
    networks = SweepConfig(teacher=recipe, smoothings=(0.0, 0.2), seeds=1).networks()
    assert networks[0.0, 0] == TeacherConfig().with_loss(labels=LabelsConfig(confidence_penalty=0.1))
    assert networks[0.2, 0] == recipe


def test_a_sweep_has_networks_that_can_be_counted_and_can_be() -> None:
    with pytest.raises(UserError, match="at most 10,000"):
        SweepConfig(seeds=10**9)
    with pytest.raises(UserError, match="seed"):
        SweepConfig(teacher=TeacherConfig(seed=2**63 - 1), seeds=2)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = (
    "labels",
    "loss",
    "towards",
    "soft",
    "kwargs",
    "teacher",
    "cache",
    "data",
    "model",
    "runs",
    "seeds",
    "self",
)
_OBJECTS = st.recursive(
    st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(_FIELDS), inner | _JSON, max_size=3),
    max_leaves=6,
)


@pytest.mark.fault("odd JSON and command lines")
@given(st.sampled_from(["teacher", "cache", "student", "sweep", "analysis", "report", "calibration"]), _OBJECTS)
@example("teacher", {"loss": {"labels": 5}})
@example("teacher", {"loss": {"labels": {"towards": [], "kwargs": {}}}})
@example("student", {"loss": [1]})
@example("student", {"loss": {"soft": {}, "kwargs": {}}})
@example("teacher", {"self": 1})
@settings(suppress_health_check=[HealthCheck.too_slow])  # text is slow the first time
def test_a_stage_of_wrong_types_is_one_line(stage: str, fields: dict[str, object]) -> None:
    with suppress(UserError):
        key(parse_stage({**fields, "stage": stage}))


def test_arguments_in_another_order_are_no_other_teacher() -> None:
    one, other = (ModelConfig(kwargs=kwargs) for kwargs in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    with pytest.raises(UserError, match="some of them the same"):
        EnsembleConfig(members=(TeacherConfig(model=one), TeacherConfig(model=other)))


@pytest.mark.fault("other encodings, closed streams")
@pytest.mark.parametrize(
    "make",
    [
        lambda name: DataConfig(name=f"imagefolder:{name}"),
        lambda name: ModelConfig(name=f"{name}:net"),
        lambda name: ImportFlags(teacher=name),
        lambda name: ImportConfig(sha256=("0" * 64,), classes=("a", name)),
    ],
)
def test_a_name_that_no_record_can_hold_is_refused(make: Callable[[str], object]) -> None:
    name = b"caf\xe9".decode(errors="surrogateescape")
    with pytest.raises(UserError, match=r"caf\\udce9.*: expected a text in UTF-8"):
        make(name)
    make("café")
