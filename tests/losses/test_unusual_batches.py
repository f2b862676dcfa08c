"""Batches that do not fit, teachers that exclude classes, and samples without a label, against slow oracles."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from distill.config import IGNORED, SOFT_TERMS, LossConfig
from distill.errors import UserError
from distill.losses import kl_distillation, make_loss, prepare
from distill.losses.distillation import decoupled_kl, decoupled_temperatures, weighted_soft_labels
from distill.losses.objective import soft_term
from tests.losses.slow_losses import K, draw, mixed, slow_gradient, slow_loss

pytestmark = pytest.mark.fault("odd input of a loss")

CONFIGS = [
    LossConfig(soft=soft, alpha=alpha, temperature=3.0, smoothing=smoothing, smoothing_convention=convention)
    for soft in SOFT_TERMS
    for alpha, smoothing, convention in ((1.0, 0.0, "uniform"), (0.3, 0.1, "uniform"), (0.3, 0.1, "maxsup"))
] + [
    LossConfig(alpha=0.3, temperature=3.0, temperature_on="teacher"),
]
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS, ids=repr)
EVERY_TERM = pytest.mark.parametrize("soft", SOFT_TERMS)


def equals_the_oracle(config, student, labels, teacher) -> None:
    total = make_loss(config)(student, labels, teacher).total
    (gradient,) = torch.autograd.grad(total, student, allow_unused=True)
    at = student.tolist()
    slow = partial(slow_loss, labels=labels.tolist(), teacher=teacher.tolist(), c=config, at=at)
    assert total.item() == pytest.approx(slow(at), rel=1e-12)
    torch.testing.assert_close(gradient, torch.tensor(slow_gradient(slow, at)).double(), rtol=1e-6, atol=1e-8)


def excluding(labels: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Exclude one class, the label, all classes but the label, none, and two classes, sample by sample."""
    teacher, own = teacher.clone(), labels.tolist()
    teacher[0, (own[0] + 1) % K] = -math.inf
    teacher[1, own[1]] = -math.inf
    teacher[2, [k for k in range(K) if k != own[2]]] = -math.inf
    teacher[4, [(own[4] + 1) % K, (own[4] + 2) % K]] = -math.inf
    return teacher


@pytest.mark.parametrize("is_mixed", [False, True], ids=["classes", "shares"])
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_a_class_that_the_teacher_excludes_adds_nothing(config, is_mixed):
    student, labels, teacher = draw()
    teacher = excluding(labels, teacher)
    labels = mixed(labels, K) if is_mixed else labels
    equals_the_oracle(config, student, labels, teacher)
    (prepared,) = prepare(config, teacher.float(), len(labels))
    narrow = student.detach().float().requires_grad_()
    terms = make_loss(config)(narrow, labels.float() if is_mixed else labels, prepared)
    assert torch.autograd.grad(terms.total, narrow)[0].isfinite().all()
    assert terms.total.item() == pytest.approx(make_loss(config)(student, labels, teacher).total.item(), rel=1e-4)


@pytest.mark.parametrize("temperature_on", ["both", "teacher"])
def test_the_readable_kl_of_an_excluded_class_is_that_of_the_others(temperature_on):
    student, labels, teacher = draw()
    teacher = excluding(labels, teacher)
    config = LossConfig(alpha=1, temperature=3.0, temperature_on=temperature_on)
    readable = kl_distillation(student, teacher, 3.0, temperature_on)
    fused = make_loss(config)(student, labels, teacher).total
    torch.testing.assert_close(readable, fused)
    (gradient,) = torch.autograd.grad(readable, student)
    torch.testing.assert_close(gradient, *torch.autograd.grad(fused, student))


@pytest.mark.parametrize("without", [[0], [1, 3], [0, 1, 2, 3, 4]], ids=["one", "two", "all"])
@EVERY_CONFIG
def test_a_sample_without_label_has_the_terms_that_need_none(config, without):
    student, labels, teacher = draw()
    labels[without] = IGNORED
    equals_the_oracle(config, student, labels, teacher)


@pytest.mark.parametrize("options", [{"by_sample": "difficulty"}, {"confidence_penalty": 0.1}], ids=str)
def test_a_sample_without_label_has_no_hard_term_with_options_of_labels(options):
    config = LossConfig(alpha=0.3, smoothing=0.1, labels=options)
    student, labels, teacher = draw()
    labels[3] = IGNORED
    terms, counted = make_loss(config)(student, labels, teacher), labels != IGNORED
    hard = make_loss(config.replace(alpha=0.0))(student[counted], labels[counted]).total
    expected = 0.7 * hard + 0.3 * kl_distillation(student, teacher, config.temperature)
    torch.testing.assert_close(terms.total, expected)
    (gradient,) = torch.autograd.grad(terms.total, student)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, student))


@pytest.mark.parametrize("without", [[1, 3], [0, 1, 2, 3, 4]], ids=["two", "all"])
@pytest.mark.parametrize("config", [c for c in CONFIGS if not c.soft_term.is_plain_kl], ids=repr)
def test_later_batches_may_lack_labels_that_the_first_had(config, without):
    student, labels, teacher = draw()
    loss = make_loss(config)
    loss(student, labels, teacher)
    labels[without] = IGNORED
    total = loss(student, labels, teacher).total
    expected = slow_loss(student.tolist(), labels.tolist(), teacher.tolist(), config)
    assert total.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.grad(total, student)[0].isfinite().all()


def test_labels_of_later_batches_may_be_missing_once_one_was():
    loss = make_loss(LossConfig(alpha=0.5))
    student, labels, teacher = draw()
    without = labels.clone()
    without[2] = IGNORED
    for given in (without, labels, without):
        expected = slow_loss(student.tolist(), given.tolist(), teacher.tolist(), LossConfig(alpha=0.5))
        assert loss(student, given, teacher).total.item() == pytest.approx(expected, rel=1e-12)
    shares = mixed(labels, K)
    expected = slow_loss(student.tolist(), shares.tolist(), teacher.tolist(), LossConfig(alpha=0.5))
    assert loss(student, shares, teacher).total.item() == pytest.approx(expected, rel=1e-12)


def test_parts_of_a_sample_without_label_are_zero():
    student, labels, teacher = draw()
    labels[1] = IGNORED
    for part in decoupled_kl(student, teacher, labels):
        assert (part == 0).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("columns", [slice(0, 1), slice(0, 3), slice(0, 9)], ids=["one", "fewer", "more"])
@EVERY_TERM
def test_a_teacher_of_other_width_is_refused_at_every_step(soft, columns):
    student, labels, _ = draw()
    _, _, wide = draw(k=9)
    config = LossConfig(soft=soft, alpha=0.5)
    (prepared,) = prepare(config, wide[:, columns], len(labels))
    loss = make_loss(config)
    for rows in (wide[:, columns], prepared):
        with pytest.raises(UserError, match=r"expected \[5, 4\]"):
            loss(student, labels, rows)
    loss(student, labels, wide[:, :K])
    for call in (loss, soft_term(config)):
        with pytest.raises(UserError, match=r"teacher_logits"):
            call(student, labels, wide[:, columns])


@EVERY_TERM
def test_a_teacher_of_other_samples_is_refused(soft):
    student, labels, teacher = draw()
    for rows in (teacher[:1], teacher[:4], teacher[0]):
        with pytest.raises(UserError, match="Give the same samples"):
            make_loss(LossConfig(soft=soft))(student, labels, rows)


@pytest.mark.parametrize("soft", [name for name, term in SOFT_TERMS.items() if term.needs_labels])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_labels_of_other_samples_are_refused_at_every_step(soft, alpha):
    student, labels, teacher = draw()
    loss = make_loss(LossConfig(soft=soft, alpha=alpha))
    loss(student, labels, teacher)
    for given in (labels[:1], labels[:4], labels.unsqueeze(1), mixed(labels.clamp(max=2), 3)):
        with pytest.raises(UserError, match="labels = 'shape"):
            loss(student, given, teacher)


@pytest.mark.parametrize("term", [decoupled_kl, weighted_soft_labels, decoupled_temperatures])
def test_readable_terms_refuse_labels_of_other_samples(term):
    student, labels, teacher = draw()
    arguments = (2.0, 4.0) if term is decoupled_temperatures else (2.0,)
    with pytest.raises(UserError, match="labels = 'shape"):
        term(student, teacher, labels[:1], *arguments)
