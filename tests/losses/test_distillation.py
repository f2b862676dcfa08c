"""The soft terms of other papers: closed forms, invariances, and logits where the obvious way of writing fails.

Value and gradient against Python loops are in test_objective.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distill.config import SOFT_TERMS, LossConfig, SoftTerm
from distill.losses import make_loss
from distill.losses.distillation import (
    classes_of,
    correlation,
    decoupled_distillation,
    decoupled_kl,
    decoupled_temperatures,
    dist_distillation,
    kl_distillation,
    standardised_distillation,
    weighted_soft_labels,
)
from distill.system.references import referenced
from tests.losses.slow_losses import draw, mixed, slow_parts, slow_pearson, slow_wsl_weight

Term = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(student, teacher, labels) → loss."""

ARGUMENTS: dict[str, dict[str, float]] = {
    "dkd": {"temperature": 3.0, "target": 0.5, "nontarget": 4.0},
    "dist": {"inter": 1.5, "intra": 0.5},
    "decoupled": {"label_temperature": 4.0},
}
"""Arguments that are not the default of a term, or a temperature that is not 2."""


def made(term: SoftTerm) -> Term:
    function = partial(
        referenced(term.function), **{"temperature": 2.0} | term.defaults | ARGUMENTS.get(term.name, {})
    )
    return (lambda s, t, y: function(s, t, labels=y)) if term.needs_labels else lambda s, t, y: function(s, t)


# Plain KL and logit matching have tests of their own in test_objective.py.
TERMS = {name: made(term) for name, term in SOFT_TERMS.items() if name not in ("kl", "logit-matching")}
EVERY_TERM = pytest.mark.parametrize("name", TERMS)
SEEDS = st.integers(0, 2**31)
SHIFTS = st.floats(-50, 50)


def taken(name: str, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient."""
    student = student.detach().clone().requires_grad_()
    value = TERMS[name](student, teacher, labels)
    return value.detach(), *torch.autograd.grad(value, student)


def same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], rtol: float = 1e-9) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=1e-10)


@EVERY_TERM
@given(seed=SEEDS, of_student=SHIFTS, of_teacher=SHIFTS)
@settings(max_examples=10, deadline=None)
def test_a_shift_of_a_samples_logits_changes_nothing(name, seed, of_student, of_teacher) -> None:
    student, labels, teacher = draw(n=6, k=5, seed=seed)
    rows = torch.linspace(-1, 1, 6, dtype=torch.float64).unsqueeze(1)
    # ATS divides the logits of the teacher by different numbers, so it alone minds what they are counted from.
    moved = teacher if name == "decoupled" else teacher + of_teacher * rows
    same(taken(name, student + of_student * rows, moved, labels), taken(name, student, teacher, labels))


def test_decoupled_temperatures_take_the_teachers_logits_as_they_come():
    student, labels, teacher = draw()
    term = TERMS["decoupled"]
    assert abs(term(student, teacher + 5, labels) - term(student, teacher, labels)).item() > 1e-2


@EVERY_TERM
@given(seed=SEEDS, order=st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_classes_and_of_samples_changes_nothing(name, seed, order) -> None:
    student, labels, teacher = draw(n=6, k=5, seed=seed)
    classes, samples = list(range(5)), list(range(6))
    order.shuffle(classes)
    order.shuffle(samples)
    there = torch.tensor(classes)
    value, gradient = taken(name, student, teacher, labels)
    found = taken(name, student[samples][:, there], teacher[samples][:, there], there.argsort()[labels[samples]])
    same(found, (value, gradient[samples][:, there]))


@EVERY_TERM
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_a_student_that_equals_its_targets_has_neither_loss_nor_gradient(name, seed) -> None:
    _, labels, teacher = draw(n=6, k=5, seed=seed)
    student = teacher
    if name == "decoupled":
        own = F.one_hot(labels, 5).bool()
        student = torch.where(own, teacher / 4, teacher / 2)
    value, gradient = taken(name, student, teacher, labels)
    assert value.item() == pytest.approx(0, abs=1e-12)
    # The square root in a correlation or a standard deviation rounds.
    assert gradient.abs().max().item() < 1e-9


@EVERY_TERM
@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_no_term_is_negative(name, seed) -> None:
    student, labels, teacher = draw(n=6, k=5, seed=seed)
    assert TERMS[name](student, teacher, labels).item() > 0


@EVERY_TERM
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_logits_stay_finite(name, scale, dtype):
    student, labels, teacher = draw(n=16, k=10, scale=1.0)
    value, gradient = taken(name, (student * scale).to(dtype), (teacher * scale).half(), labels)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    assert value.isfinite()
    assert value.item() >= -1e-4
    assert gradient.isfinite().all()


@EVERY_TERM
def test_half_precision_is_computed_with_in_float32(name):
    student, labels, teacher = draw(n=16, k=10, dtype=torch.bfloat16)
    value, gradient = taken(name, student, teacher.half(), labels)
    wide, of_wide = taken(name, student.float(), teacher.half().float(), labels)
    assert torch.equal(value, wide)
    assert torch.equal(gradient, of_wide.bfloat16())


@EVERY_TERM
def test_a_mixed_label_counts_as_its_largest_share_or_by_its_shares(name):
    student, labels, teacher = draw(n=32, k=6)
    shares = mixed(labels, 6)
    found = taken(name, student, teacher, shares)
    if name == "wsl":  # its cross-entropies take shares
        of_student, of_teacher = (-(shares * torch.log_softmax(z.detach(), 1)).sum(1) for z in (student, teacher))
        weight = 1 - torch.exp(-of_student / (of_teacher + 1e-7))
        log_p, log_q = (torch.log_softmax(z.detach() / 2, 1) for z in (teacher, student))
        expected = 4 * (weight * (log_p.exp() * (log_p - log_q)).sum(1)).mean()
        torch.testing.assert_close(found[0], expected)
    else:
        same(found, taken(name, student, teacher, shares.argmax(1)))


def test_the_class_of_a_draw_is_the_first():
    shares = torch.tensor([[0.0, 0.5, 0.5], [0.2, 0.1, 0.7]])
    assert classes_of(shares).tolist() == [1, 2]
    labels = torch.tensor([4, 0])
    assert classes_of(labels) is labels


# Standardised logits.


@given(
    seed=SEEDS,
    scale=st.floats(0.05, 20),
    of_teacher=st.floats(0.05, 20),
    shift=SHIFTS,
)
@settings(max_examples=50, deadline=None)
def test_standardised_logits_do_not_mind_their_scale(seed, scale, of_teacher, shift) -> None:
    student, labels, teacher = draw(n=6, k=5, seed=seed)
    value, gradient = taken("standardised", student, teacher, labels)
    found, of_found = taken("standardised", scale * student + shift, of_teacher * teacher - shift, labels)
    # Not equal to the last digit: 10⁻⁷ stands beside each deviation.
    torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(of_found, gradient / scale, rtol=1e-4, atol=1e-5 / scale)


def test_of_standardised_logits_it_is_plain_distillation():
    student, _, teacher = draw(n=16, k=10)
    student, teacher = ((z - z.mean(1, True)) / z.std(1, keepdim=True) for z in (student, teacher))
    torch.testing.assert_close(
        standardised_distillation(student, teacher, 2.0), kl_distillation(student, teacher, 2.0), rtol=1e-5, atol=0
    )


def test_a_sample_without_spread_has_finite_gradient_when_standardised():
    student, labels, teacher = draw(n=3, k=4, dtype=torch.float32)
    student = student.detach().clone()
    student[0] = 0.7
    teacher[1] = -2.0
    value, gradient = taken("standardised", student, teacher, labels)
    assert value.isfinite()
    assert gradient.isfinite().all()


# Decoupled distillation.


@given(seed=SEEDS, temperature=st.sampled_from([0.5, 1.0, 4.0]), classes=st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_kl_is_its_two_parts_together(seed, temperature, classes) -> None:
    """KL = TCKD + (1 - p_t) NCKD for each sample."""
    student, labels, teacher = draw(n=6, k=classes, seed=seed)
    parts = decoupled_kl(student, teacher, labels, temperature)
    together = parts.target + (1 - parts.label_probability) * parts.nontarget
    for i in range(6):
        whole = kl_distillation(student[i : i + 1], teacher[i : i + 1], temperature) / temperature**2
        assert together[i].item() == pytest.approx(whole.item(), rel=1e-9, abs=1e-13)


@given(seed=SEEDS, target=st.floats(0, 10), nontarget=st.floats(0, 10))
@settings(max_examples=10, deadline=None)
def test_the_weights_of_dkd_scale_its_parts(seed, target, nontarget) -> None:
    student, labels, teacher = draw(n=6, k=5, seed=seed)
    weighted = partial(decoupled_distillation, student, teacher, labels, 4.0)
    whole = weighted(target=target, nontarget=nontarget).item()
    assert whole == pytest.approx(target * weighted(1, 0).item() + nontarget * weighted(0, 1).item(), rel=1e-12)


def test_two_classes_have_no_knowledge_beside_the_label():
    student, labels, teacher = draw(n=6, k=2)
    parts = decoupled_kl(student, teacher, labels)
    assert not parts.nontarget.any()
    torch.testing.assert_close(parts.target.mean(), kl_distillation(student, teacher, 1.0))


@pytest.mark.parametrize("spread", [500.0, 5000.0])
def test_large_logits_do_not_reach_a_mask(spread):
    """The label's logit is far above the others: what they say among themselves is untouched by its size."""
    student, _, teacher = draw(n=6, k=5)
    student, labels = student.detach(), torch.arange(6) % 5
    small = decoupled_kl(student, teacher, labels)
    own = F.one_hot(labels, 5) * spread
    large = decoupled_kl(student + own, teacher + own, labels)
    torch.testing.assert_close(large.nontarget, small.nontarget)
    assert large.target.max().item() < 1e-200
    below = decoupled_kl(student - own, teacher - own, labels)
    torch.testing.assert_close(below.nontarget, small.nontarget)


def test_a_sure_teachers_parts_keep_their_digits_in_float32():
    """A student of 20 nats against a teacher of 30: probabilities in float32 would be 1, and TCKD 0."""
    labels = torch.tensor([0])
    student, teacher = torch.tensor([[20.0, 0.0, 1.0]]), torch.tensor([[30.0, 0.0, -1.0]])
    found = decoupled_kl(student, teacher, labels)
    of_target, of_others, _ = slow_parts(student[0].tolist(), teacher[0].tolist(), 0, 1.0)
    assert found.target.item() == pytest.approx(of_target, rel=1e-4)
    assert found.target.item() > 0
    assert found.nontarget.item() == pytest.approx(of_others, rel=1e-5)
    value, gradient = taken("dkd", student, teacher, labels)
    assert value.isfinite()
    assert gradient.isfinite().all()


# Correlations.


@given(seed=SEEDS, scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
@settings(max_examples=50, deadline=None)
def test_a_correlation_does_not_mind_scale_and_shift(seed, scale, shift) -> None:
    """Of probabilities, as the paper says: a student may match its teacher up to both."""
    student, _, teacher = draw(n=6, k=5, seed=seed)
    p, q = torch.softmax(teacher, 1), torch.softmax(student.detach(), 1)
    found, expected = correlation(scale * q + shift, p), correlation(q, p)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(correlation(-q, p), -expected)
    torch.testing.assert_close(correlation(p, q), expected)
    torch.testing.assert_close(correlation(p, scale * p + shift), torch.ones(6, dtype=torch.float64))
    assert expected.abs().max().item() <= 1 + 1e-12
    slow = [slow_pearson(a, b) for a, b in zip(q.tolist(), p.tolist(), strict=True)]
    torch.testing.assert_close(expected, torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_constant_has_no_correlation_and_no_gradient(dtype):
    a = torch.tensor([[0.1] * 7, [0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1], [0.3] * 7], dtype=dtype)
    a[0, 3] += torch.finfo(dtype).eps / 16  # what rounding does
    a.requires_grad_()
    b = torch.tensor([[0.1, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1], [0.2] * 7, [0.3] * 7], dtype=dtype)
    found = correlation(a, b)
    assert found.tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert not gradient.any()


@pytest.mark.parametrize("tiny", [1e-8, 1e-12, 1e-20, 1e-30])
def test_a_vanishing_class_has_a_finite_gradient(tiny):
    """A class that a sure network all but excludes: the squares in its column's deviation are tinier still."""
    student, labels, teacher = draw(n=16, k=5, dtype=torch.float32)
    student, teacher = student.detach().clone(), teacher.clone()
    student[:, 2] += math.log(tiny)
    teacher[:, 2] += math.log(tiny)
    value, gradient = taken("dist", student, teacher, labels)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max().item() < 10


def test_an_undecided_student_has_a_finite_gradient():
    """All logits equal, as of a last layer that starts at zero."""
    _, labels, teacher = draw(n=16, k=10, dtype=torch.float32)
    value, gradient = taken("dist", torch.zeros(16, 10), teacher, labels)
    assert value.item() == pytest.approx(2**2 * (1.5 + 0.5))
    assert not gradient.any()


@given(seed=SEEDS, inter=st.floats(0, 5), intra=st.floats(0, 5))
@settings(max_examples=10, deadline=None)
def test_the_weights_of_dist_scale_its_parts(seed, inter, intra) -> None:
    student, _, teacher = draw(n=6, k=5, seed=seed)
    weighted = partial(dist_distillation, student, teacher, 2.0)
    whole = weighted(inter=inter, intra=intra).item()
    assert whole == pytest.approx(inter * weighted(1, 0).item() + intra * weighted(0, 1).item(), rel=1e-12)


def test_dist_takes_t_squared():
    student, _, teacher = draw(n=6, k=5)
    torch.testing.assert_close(
        dist_distillation(student, teacher, 3.0), 9 * dist_distillation(student / 3, teacher / 3, 1.0)
    )


# Weighted soft labels.


def test_a_student_as_sure_of_the_label_as_its_teacher_weighs_1_minus_1_over_e():
    """The other classes' logits are the teacher's in another order, so both cross-entropies are equal."""
    _, _, teacher = draw(n=8, k=6)
    labels = torch.zeros(8, dtype=torch.int64)
    student = teacher[:, [0, 2, 3, 4, 5, 1]]
    expected = (1 - math.exp(-1)) * kl_distillation(student, teacher, 2.0)
    torch.testing.assert_close(weighted_soft_labels(student, teacher, labels, 2.0), expected, rtol=1e-6, atol=0)


def test_a_student_better_than_its_teacher_is_left_alone_and_a_worse_one_is_distilled():
    _, _, teacher = draw(n=8, k=6)
    labels = torch.zeros(8, dtype=torch.int64)
    surer, unsure = teacher.clone(), teacher.clone()
    surer[:, 0] += 60
    unsure[:, 0] -= 500
    assert weighted_soft_labels(surer, teacher, labels, 2.0).item() == pytest.approx(0, abs=1e-9)
    expected = kl_distillation(unsure, teacher, 2.0)
    torch.testing.assert_close(weighted_soft_labels(unsure, teacher, labels, 2.0), expected)


def test_the_weights_of_samples_have_no_gradient():
    student, labels, teacher = draw(n=8, k=6)
    weights = [
        slow_wsl_weight(*row) for row in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True)
    ]
    rows = [
        torch.autograd.grad(kl_distillation(student[i : i + 1], teacher[i : i + 1], 2.0), student)[0]
        for i in range(8)
    ]
    expected = sum(weight * row / 8 for weight, row in zip(weights, rows, strict=True))
    torch.testing.assert_close(taken("wsl", student, teacher, labels)[1], expected)


def test_two_sure_networks_do_not_divide_by_zero():
    teacher = torch.tensor([[200.0, 0.0, 0.0], [0.0, 100.0, 0.0]])
    value, gradient = taken("wsl", teacher * 2, teacher, torch.tensor([0, 1]))
    assert value.isfinite()
    assert gradient.isfinite().all()


# Decoupled temperatures.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equal_temperatures_are_plain_distillation_with_the_temperature_on_the_teacher(temperature):
    student, labels, teacher = draw(n=8, k=6)
    found = decoupled_temperatures(student, teacher, labels, temperature, label_temperature=temperature)
    torch.testing.assert_close(found, kl_distillation(student, teacher, temperature, "teacher"))
    config = LossConfig(
        alpha=1, soft="decoupled", temperature=temperature, kwargs={"label_temperature": temperature}
    )
    plain = LossConfig(alpha=1, temperature=temperature, temperature_on="teacher")
    torch.testing.assert_close(*(make_loss(c)(student, labels, teacher).total for c in (config, plain)))


def test_a_hotter_label_takes_mass_from_the_label_only():
    """What the other classes say among themselves is at their own temperature, whatever the label's."""
    student, labels, teacher = draw(n=8, k=6)
    teacher = teacher.scatter(1, labels.unsqueeze(1), 9.0)
    targets = []
    for label_temperature in (2.0, 4.0):
        zero = student.detach().clone().requires_grad_()
        loss = decoupled_temperatures(zero, teacher, labels, 2.0, label_temperature)
        # p_s - p_t is the gradient.
        targets.append(torch.softmax(zero.detach(), 1) - 8 * torch.autograd.grad(loss, zero)[0])
    cool, hot = targets
    own = F.one_hot(labels, 6).bool()
    assert (hot[own] < cool[own]).all()
    rest = [(p / p.masked_fill(own, 0).sum(1, keepdim=True)).masked_fill(own, 0) for p in (cool, hot)]
    torch.testing.assert_close(*rest)
