"""Losses and soft terms: their arguments, the list of them, and what it refers to."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from distill.cli.main import main
from distill.config import (
    SOFT_TERMS,
    TOWARDS,
    DataConfig,
    LabelsConfig,
    LossConfig,
    SoftTerm,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.losses import make_loss
from distill.system.references import referenced
from tests.losses.slow_losses import draw


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


@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (lambda: LabelsConfig(kwargs={"beta": 1}), "loss.labels.kwargs", "none for all"),
        (lambda: LabelsConfig(towards="hierarchy"), "loss.labels.kwargs", "tree, a list, for hierarchy"),
        (
            lambda: LabelsConfig(towards="matrix", kwargs={"row": []}),
            "loss.labels.kwargs",
            "rows, a list, for matrix",
        ),
        (
            lambda: LabelsConfig(towards="similar", kwargs={"temperature": 0}),
            "loss.labels.kwargs",
            "positive numbers",
        ),
        (lambda: LabelsConfig(first=0.5), "loss.labels.first", "0 with the schedule constant"),
        (lambda: LabelsConfig(schedule="linear", hold=0.1), "loss.labels.hold", "0.5 with the schedule linear"),
        (lambda: LabelsConfig(confidence_penalty=-1), "loss.labels.confidence_penalty", "greater than"),
        (
            lambda: TeacherConfig().with_loss(labels=LabelsConfig(schedule="linear")),
            "loss.smoothing",
            "more than 0",
        ),
        (
            lambda: TeacherConfig().with_loss(smoothing=0.1, labels=LabelsConfig(per_class=(0.1, 0.2))),
            "loss.smoothing",
            "0 beside",
        ),
        (
            lambda: TeacherConfig().with_loss(smoothing=0.1, labels=_SIMILAR),
            "smoothing_source",
            "a trained teacher for",
        ),
        (
            lambda: TeacherConfig(smoothing_source=TeacherConfig()),
            "smoothing_source",
            "none for `loss.labels.towards=all`",
        ),
        (
            lambda: TeacherConfig().with_loss(smoothing=0.5, labels=LabelsConfig(schedule="cosine", first=2)),
            "loss.labels.first",
            "less than 2",
        ),
        (
            lambda: LossConfig(
                alpha=0,
                smoothing=0.1,
                smoothing_convention="maxsup",
                labels=LabelsConfig(by_sample="confidence"),
            ),
            "loss.smoothing_convention",
            "uniform or others",
        ),
        (
            lambda: StudentConfig(loss=LossConfig(alpha=0, smoothing=0.1, labels=_SIMILAR)),
            "smoothing_source",
            "Give one as `smoothing_source`",
        ),
        (lambda: LossConfig(labels=LabelsConfig(confidence_penalty=0.1)), "loss.labels", "none at alpha = 1"),
        (lambda: LossConfig(labels=LabelsConfig(schedule="linear")), "loss.labels", "Lower `loss.alpha`"),
        (lambda: LossConfig(smoothing=0.1), "loss.smoothing", "0 at alpha = 1"),
        (lambda: SweepConfig(smoothings=(0.1, 0.1)), "smoothings", "each only once"),
        (lambda: SweepConfig(smoothings=(0.1,)), "smoothings", "at least 2"),
        (lambda: SweepConfig(teacher=TeacherConfig(data=DataConfig(held_out=0))), "data.held_out", "more than 0"),
        (lambda: DataConfig(label_noise=1.1), "data.label_noise", "less than or equal to 1"),
    ],
)
def test_a_smoothing_that_means_nothing_is_refused(make, field: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert caught.value.field == field
    assert says in str(caught.value)


EVERY_TERM = pytest.mark.parametrize("term", SOFT_TERMS.values(), ids=list(SOFT_TERMS))


def largest_difference(student_logits, teacher_logits, temperature, weight):
    return weight * (student_logits - teacher_logits).abs().max() / temperature


@EVERY_TERM
def test_every_reference_is_a_function_of_what_it_is_called_with(term: SoftTerm) -> None:
    parameters = inspect.signature(referenced(term.function)).parameters
    expected = {"student_logits", "teacher_logits", "temperature", *term.defaults}
    expected |= {"labels"} if term.needs_labels else set()
    expected |= {"temperature_on"} if term.takes_temperature_on else set()
    assert set(parameters) == expected
    assert list(parameters)[:2] == ["student_logits", "teacher_logits"]
    for name, default in term.defaults.items():
        assert parameters[name].default in (default, inspect.Parameter.empty), "one default"


@EVERY_TERM
def test_a_term_compares_samples_where_the_list_says_so(term: SoftTerm) -> None:
    """The mean of the losses of both halves is that of the batch, unless samples are compared."""
    student, labels, teacher = draw(n=8)
    loss = make_loss(LossConfig(soft=term.name))
    whole = loss(student, labels, teacher).total
    halves = [loss(student[part], labels[part], teacher[part]).total for part in (slice(4), slice(4, 8))]
    assert torch.isclose(whole, torch.stack(halves).mean(), rtol=1e-9) != term.compares_samples


@EVERY_TERM
def test_help_names_a_term_and_its_arguments(term: SoftTerm) -> None:
    fields = LossConfig.model_fields
    assert f"{term.name}: {term.meaning}" in (fields["soft"].description or "")
    if term.defaults:
        assert f"{json.dumps(term.defaults)} of {term.name}" in (fields["kwargs"].description or "")


def test_the_command_line_shows_all_terms(capsys: pytest.CaptureFixture[str]) -> None:
    main(["student", "--help"])
    assert ", ".join(SOFT_TERMS) in " ".join(capsys.readouterr().out.split())


def test_a_term_that_is_not_in_the_list_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError) as caught:
        LossConfig(soft="hints")
    assert all(repr(name) in str(caught.value) for name in SOFT_TERMS)


def test_the_readme_lists_every_soft_term() -> None:
    readme = (Path(__file__).parents[2] / "distill" / "training" / "README.md").read_text(encoding="utf-8")
    listed = readme.partition("- **Soft targets** of a student (`--loss.soft`):")[2].partition("\n- ")[0]
    assert [name for name in re.findall(r"`([a-z-]+)`", listed) if name in SOFT_TERMS] == [*SOFT_TERMS]


def test_a_new_line_in_the_list_is_a_soft_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its check of names, which reads the list when the module is imported."""
    toy = SoftTerm("toy", f"{__name__}:largest_difference", "a toy", {"weight": 0.5})
    monkeypatch.setitem(SOFT_TERMS, "toy", toy)
    student, labels, teacher = draw()
    config = LossConfig.model_construct(**dict(LossConfig()) | {"soft": "toy"})
    found = make_loss(config)(student, labels, teacher).total
    torch.testing.assert_close(found, (student - teacher).abs().max() / 8)


def test_what_smoothing_can_lead_towards_is_one_set() -> None:
    assert get_args(LabelsConfig.model_fields["towards"].annotation) == tuple(TOWARDS)
