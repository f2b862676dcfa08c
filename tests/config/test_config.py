from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill.config import (
    SOFT_TERMS,
    AnalysisConfig,
    AugmentConfig,
    CacheConfig,
    DataConfig,
    LabelsConfig,
    LossConfig,
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


@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (lambda: OptimConfig(lr=-1), "OptimConfig.lr", "greater than 0"),
        (lambda: OptimConfig(lr=float("nan")), "OptimConfig.lr", "finite"),
        (lambda: TeacherConfig().with_loss(smoothing=1.0), "LossConfig.smoothing", "less than 1"),
        (lambda: TeacherConfig(temperature=3), "TeacherConfig.temperature", "not permitted"),
        (lambda: CacheConfig(views=4), "views", "Set --augment"),
        (lambda: StudentConfig(), "loss.alpha", "Give a cache"),
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


@pytest.mark.parametrize(
    ("soft", "kwargs"),
    [
        ("kl", {}),
        ("dkd", {"target": 2}),
        ("dkd", {"target": 3.0, "nontarget": 2.0}),
        ("dist", {"inter": 0.5, "intra": 3}),
        ("decoupled", {"label_temperature": 5}),
    ],
)
def test_a_soft_term_takes_its_own_arguments(soft, kwargs) -> None:
    assert LossConfig(soft=soft, kwargs=kwargs).kwargs == kwargs


@pytest.mark.parametrize(
    ("soft", "kwargs", "says"),
    [
        ("kl", {"target": 1}, "none for kl"),
        ("wsl", {"weight": 1}, "none for wsl"),
        ("dkd", {"alpha": 1}, "target, nontarget"),
        ("dkd", {"target": 0}, "positive"),
        ("dkd", {"nontarget": -1.0}, "positive"),
        ("dist", {"inter": "2"}, "positive numbers for inter, intra"),
        ("dist", {"intra": True}, "positive"),
        ("decoupled", {"temperature": 2}, "label_temperature"),
    ],
)
def test_other_arguments_of_a_soft_term_are_refused(soft, kwargs, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        LossConfig(soft=soft, kwargs=kwargs)
    assert caught.value.field == "loss.kwargs"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("soft", [name for name in SOFT_TERMS if name != "kl"])
def test_only_kl_has_a_temperature_on_the_teacher_alone(soft) -> None:
    with pytest.raises(UserError, match=f"both for {soft}") as caught:
        LossConfig(soft=soft, temperature_on="teacher")
    assert caught.value.field == "loss.temperature_on"
    assert LossConfig(soft="kl", temperature_on="teacher").temperature_on == "teacher"


def test_soft_terms_and_their_arguments_have_keys_of_their_own(student: StudentConfig) -> None:
    losses = [LossConfig(soft=soft) for soft in SOFT_TERMS]
    losses += [LossConfig(soft="dkd", kwargs={"nontarget": 2}), LossConfig(soft="dkd", kwargs={"target": 2})]
    assert len({key(student.replace(loss=loss)) for loss in losses}) == len(losses)
    again = parse_stage(student.replace(loss=losses[-1]).model_dump(mode="json"))
    assert isinstance(again, StudentConfig)
    assert again.loss == losses[-1]


def test_replace_validates() -> None:
    assert TeacherConfig().with_loss(smoothing=0.1).loss.smoothing == 0.1
    with pytest.raises(UserError, match="less than 1"):
        TeacherConfig().with_loss(smoothing=2)


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1.0, True, "4", None, [1]])
def test_arguments_of_a_soft_term_are_positive_numbers(value) -> None:
    with pytest.raises(UserError, match=r"^loss.kwargs"):
        LossConfig(soft="dkd", kwargs={"nontarget": value})


def test_one_loss_has_one_spelling() -> None:
    plain = LossConfig(soft="dkd")
    for kwargs in ({}, {"target": 1, "nontarget": 8}, {"nontarget": 8.0}, {"target": 1.0}):
        assert LossConfig(soft="dkd", kwargs=kwargs) == plain
    assert (
        LossConfig(soft="dkd", kwargs={"nontarget": 2})
        == LossConfig(soft="dkd", kwargs={"nontarget": 2.0})
        != plain
    )


_SIMILAR = LabelsConfig(towards="similar")
_OF_SIMILAR = LossConfig(alpha=0, smoothing=0.1, labels=_SIMILAR)


@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (lambda: LabelsConfig(kwargs={"beta": 1}), "labels.kwargs", "none for all"),
        (lambda: LabelsConfig(towards="hierarchy"), "labels.kwargs", "tree, a list, for hierarchy"),
        (lambda: LabelsConfig(towards="matrix", kwargs={"row": []}), "labels.kwargs", "rows, a list, for matrix"),
        (lambda: LabelsConfig(towards="similar", kwargs={"temperature": 0}), "labels.kwargs", "positive numbers"),
        (lambda: LabelsConfig(first=0.5), "labels.first", "0 with the schedule constant"),
        (lambda: LabelsConfig(schedule="linear", hold=0.1), "labels.hold", "0.5 with the schedule linear"),
        (lambda: LabelsConfig(confidence_penalty=-1), "LabelsConfig.confidence_penalty", "greater than"),
        (lambda: TeacherConfig().with_loss(labels=LabelsConfig(schedule="linear")), "smoothing", "more than 0"),
        (
            lambda: TeacherConfig().with_loss(smoothing=0.1, labels=LabelsConfig(per_class=(0.1, 0.2))),
            "smoothing",
            "0 beside",
        ),
        (lambda: TeacherConfig().with_loss(smoothing=0.1, labels=_SIMILAR), "smoothing_source", "a teacher for"),
        (
            lambda: TeacherConfig(smoothing_source=TeacherConfig()),
            "smoothing_source",
            "none for labels.towards all",
        ),
        (
            lambda: TeacherConfig().with_loss(smoothing=0.5, labels=LabelsConfig(schedule="cosine", first=2)),
            "labels.first",
            "less than 2",
        ),
        (
            lambda: LossConfig(
                smoothing=0.1, smoothing_convention="maxsup", labels=LabelsConfig(by_sample="confidence")
            ),
            "smoothing_convention",
            "uniform or others",
        ),
        (
            lambda: StudentConfig(loss=LossConfig(alpha=0, smoothing=0.1, labels=_SIMILAR)),
            "smoothing_source",
            "Give --smoothing-source",
        ),
        (lambda: LossConfig(labels=LabelsConfig(confidence_penalty=0.1)), "loss.labels", "none at alpha = 1"),
        (lambda: SweepConfig(smoothings=(0.1, 0.1)), "smoothings", "each only once"),
        (lambda: SweepConfig(smoothings=(0.1,)), "SweepConfig.smoothings", "at least 2"),
        (lambda: SweepConfig(teacher=TeacherConfig(data=DataConfig(held_out=0))), "data.held_out", "more than 0"),
        (lambda: DataConfig(label_noise=1.1), "DataConfig.label_noise", "less than or equal to 1"),
    ],
)
def test_a_smoothing_that_means_nothing_is_refused(make, field: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert caught.value.field == field
    assert says in str(caught.value)


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


@given(st.sampled_from(["teacher", "cache", "student", "sweep", "analysis", "report", "calibration"]), _OBJECTS)
@example("teacher", {"loss": {"labels": 5}})
@example("teacher", {"loss": {"labels": {"towards": [], "kwargs": {}}}})
@example("student", {"loss": [1]})
@example("student", {"loss": {"soft": {}, "kwargs": {}}})
@example("teacher", {"self": 1})
def test_a_stage_of_wrong_types_is_one_line(stage: str, fields: dict[str, object]) -> None:
    with suppress(UserError):
        key(parse_stage({**fields, "stage": stage}))
