"""The loss that the trainer calls, against oracles in Python loops for value and gradient, and closed forms."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import SOFT_TERMS, LossConfig
from distill.losses import label_loss, make_loss, prepare
from distill.losses.distillation import logit_matching
from distill.losses.objective import soft_term
from tests.losses.slow_losses import K, draw, mixed, slow_gradient, slow_loss

CONFIGS = [
    LossConfig(
        alpha=alpha, temperature=t, temperature_on=on, soft=soft, smoothing=eps, smoothing_convention=convention
    )
    for alpha in (0.0, 0.3, 1.0)
    for soft, t, on in (
        ("kl", 1.0, "both"),
        ("kl", 4.0, "both"),
        ("kl", 0.5, "both"),
        ("kl", 3.0, "teacher"),
        ("logit-matching", 4.0, "both"),
    )
    for eps, convention in ((0.0, "uniform"), (0.1, "uniform"), (0.2, "others"), (0.1, "maxsup"))
    if alpha < 1 or eps == 0
]
OTHER_ARGUMENTS = {
    name: {argument: (0.3 + place) * default for place, (argument, default) in enumerate(term.defaults.items())}
    for name, term in SOFT_TERMS.items()
}
SOFT = [
    LossConfig(soft=soft, alpha=alpha, temperature=temperature, kwargs=kwargs, smoothing=eps)
    for soft, arguments in OTHER_ARGUMENTS.items()
    if soft not in ("kl", "logit-matching")
    for alpha, eps, temperature, kwargs in ((1.0, 0.0, 3.0, arguments), (0.3, 0.1, 1.0, {}))
]
"""The terms of which CONFIGS has none: a new one in the list is here by itself, and wants its oracle."""


@pytest.mark.parametrize("is_mixed", [False, True], ids=["classes", "shares"])
@pytest.mark.parametrize("config", CONFIGS + SOFT, ids=repr)
def test_value_and_gradient_equal_the_slow_oracle(config, is_mixed):
    student, labels, teacher = draw()
    labels = mixed(labels, K) if is_mixed else labels
    total = make_loss(config)(student, labels, teacher).total
    total.backward()
    at = student.tolist()
    slow = partial(slow_loss, labels=labels.tolist(), teacher=teacher.tolist(), c=config, at=at)
    assert total.item() == pytest.approx(slow(at), rel=1e-12)
    expected = torch.tensor(slow_gradient(slow, at), dtype=torch.float64)
    torch.testing.assert_close(student.grad, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("config", CONFIGS + SOFT, ids=repr)
@pytest.mark.parametrize("is_mixed", [False, True], ids=["classes", "shares"])
def test_fused_equals_its_readable_twin(config, is_mixed):
    student, labels, teacher = draw(n=64, k=10, seed=1)
    labels = mixed(labels, 10) if is_mixed else labels
    hard = label_loss(student, labels, config.smoothing, config.smoothing_convention)
    soft = soft_term(config)(student, labels, teacher)
    expected = (1 - config.alpha) * hard + config.alpha * soft
    terms = make_loss(config)(student, labels, teacher)
    torch.testing.assert_close(terms.total, expected)
    (gradient,) = torch.autograd.grad(3 * terms.total, student)
    torch.testing.assert_close(gradient, *torch.autograd.grad(3 * expected, student))
    for term, value, absent in ((terms.hard, hard, config.alpha == 1), (terms.soft, soft, config.alpha == 0)):
        assert (term is None) == absent
        if term is not None:
            torch.testing.assert_close(term, value.detach())
            assert not term.requires_grad


@pytest.mark.parametrize("config", CONFIGS + SOFT, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pure_shares_are_classes(config, dtype):
    """Shares of 0 and 1 in float32, as the loader gives them, also for logits of half precision."""
    student, labels, teacher = draw(n=64, k=10, seed=3, dtype=dtype)
    loss = make_loss(config)
    one, other = loss(student, labels, teacher).total, loss(student, F.one_hot(labels, 10).float(), teacher).total
    assert one.dtype == other.dtype == torch.float32
    torch.testing.assert_close(one, other)
    gradients = (torch.autograd.grad(total, student)[0] for total in (one, other))
    torch.testing.assert_close(*gradients)


# The weights of wsl are constants to its gradient, but not to finite differences.
@pytest.mark.parametrize("config", CONFIGS + [config for config in SOFT if config.soft != "wsl"], ids=repr)
def test_gradcheck(config):
    student, labels, teacher = draw(seed=2)
    loss = make_loss(config)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, teacher).total, (student,))


def test_alpha_0_is_cross_entropy():
    student, labels, teacher = draw(dtype=torch.float32)
    terms = make_loss(LossConfig(alpha=0))(student, labels, teacher)
    assert torch.equal(terms.total, F.cross_entropy(student, labels))
    assert torch.equal(terms.total, make_loss(LossConfig(alpha=0))(student, labels, None).total)


@pytest.mark.parametrize("temperature_on", ["both", "teacher"])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 64.0])
def test_a_student_equal_to_its_teacher_has_zero_gradient(temperature, temperature_on):
    _, labels, teacher = draw(n=32, k=10, dtype=torch.float32)
    # With the temperature on the teacher only, the student that equals the soft targets is z_t / T.
    student = teacher / (temperature if temperature_on == "teacher" else 1.0)
    student.requires_grad_()
    config = LossConfig(alpha=1, temperature=temperature, temperature_on=temperature_on)
    total = make_loss(config)(student, labels, teacher).total
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max().item() < 1e-7


def test_a_high_temperature_tends_to_logit_matching():
    """T² KL → ‖z_s - z_t‖² / 2K for zero-mean logits, gradient (z_s - z_t) / K per sample (Hinton, eq. 4)."""
    student, labels, teacher = draw(n=8, k=10)
    student = (student - student.mean(1, keepdim=True)).detach().requires_grad_()
    teacher = teacher - teacher.mean(1, keepdim=True)
    loss = make_loss(LossConfig(alpha=1, temperature=1e4))(student, labels, teacher).total
    loss.backward()
    torch.testing.assert_close(loss, logit_matching(student, teacher) / 10, rtol=1e-3, atol=0)
    torch.testing.assert_close(student.grad, ((student - teacher) / (10 * 8)).detach(), rtol=2e-2, atol=1e-5)


def test_t_squared_keeps_the_scale_of_the_gradient():
    student, labels, teacher = draw(n=64, k=10, scale=0.3)
    norms = []
    for temperature in (4.0, 16.0, 64.0):
        loss = make_loss(LossConfig(alpha=1, temperature=temperature))(student, labels, teacher).total
        norms.append(torch.autograd.grad(loss, student)[0].norm().item())
    assert max(norms) / min(norms) < 1.05


@pytest.mark.parametrize("soft", SOFT_TERMS)
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_prepared_targets_give_the_same_step_as_the_teachers_logits(soft, alpha):
    student, labels, teacher = draw(n=23, k=7, dtype=torch.float32)
    smoothed = {"smoothing": 0.1, "smoothing_convention": "maxsup"} if alpha < 1 else {}
    config = LossConfig(soft=soft, alpha=alpha, temperature=3, **smoothed)
    loss, batches = make_loss(config), prepare(config, teacher.half(), batch_size=5)
    assert len(batches) == 5
    for i, batch in enumerate(batches):
        part = slice(5 * i, 5 * i + 5)
        got = loss(student[part], labels[part], batch).total
        expected = loss(student[part], labels[part], teacher[part].half()).total
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        (gradient,) = torch.autograd.grad(got, student)
        torch.testing.assert_close(gradient, *torch.autograd.grad(expected, student), rtol=1e-5, atol=1e-7)


def test_distillation_without_a_teacher_is_refused():
    student, labels, _ = draw()
    for soft in SOFT_TERMS:
        with pytest.raises(ValueError, match="teacher_logits = None"):
            make_loss(LossConfig(soft=soft))(student, labels, None)


@given(
    temperature=st.sampled_from([0.5, 1.0, 4.0, 64.0]),
    temperature_on=st.sampled_from(["both", "teacher"]),
    alpha=st.sampled_from([0.5, 1.0]),
    scale=st.sampled_from([0.0, 1.0, 1e2, 1e4]),
    convention=st.sampled_from(["uniform", "maxsup"]),
)
@settings(deadline=None, max_examples=40)
def test_extreme_logits_stay_finite(temperature, temperature_on, alpha, scale, convention):
    student, labels, teacher = draw(n=16, k=10, scale=1.0, dtype=torch.float32)
    student = (student.detach().clamp(-1, 1) * scale).requires_grad_()
    how = {"smoothing": 0.1, "smoothing_convention": convention} if alpha < 1 else {}
    config = LossConfig(alpha=alpha, temperature=temperature, temperature_on=temperature_on, **how)
    total = make_loss(config)(student, labels, teacher.clamp(-1, 1) * scale).total
    total.backward()
    assert total.isfinite()
    assert total.item() >= -1e-2
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS + SOFT, ids=repr)
def test_half_precision_logits_are_computed_with_in_float32(config):
    student, labels, teacher = draw(n=32, k=10, dtype=torch.bfloat16)
    wide = student.detach().float().requires_grad_()
    loss = make_loss(config)
    terms, expected = loss(student, labels, teacher.half()), loss(wide, labels, teacher.half())
    assert terms.total.dtype == torch.float32
    torch.testing.assert_close(terms.total, expected.total, rtol=1e-6, atol=1e-6)
    terms.total.backward()
    expected.total.backward()
    assert student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(student.grad, wide.grad.bfloat16())


@pytest.mark.parametrize("config", CONFIGS[::5] + SOFT, ids=repr)
def test_under_autocast(config):
    layer = torch.nn.Linear(8, 10)
    inputs, labels, teacher = torch.randn(16, 8), torch.randint(10, (16,)), torch.randn(16, 10).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = layer(inputs)
        terms = make_loss(config)(logits, labels, teacher)
    assert logits.dtype == torch.bfloat16
    assert terms.total.dtype == torch.float32
    expected = make_loss(config)(logits.detach().float(), labels, teacher).total
    torch.testing.assert_close(terms.total.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    terms.total.backward()
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.abs().max() > 0


def test_there_is_no_second_derivative():
    student, labels, teacher = draw()
    total = make_loss(LossConfig(alpha=0.5))(student, labels, teacher).total
    (gradient,) = torch.autograd.grad(total, student, create_graph=True)
    assert not gradient.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("config", CONFIGS + SOFT, ids=repr)
def test_cuda_equals_cpu(config):
    student, labels, teacher = draw(n=64, k=10, dtype=torch.float32)
    on_device = student.detach().cuda().requires_grad_()
    loss = make_loss(config)
    total = loss(on_device, labels.cuda(), teacher.half().cuda()).total
    expected = loss(student, labels, teacher.half()).total
    total.backward()
    expected.backward()
    torch.testing.assert_close(total.cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(on_device.grad.cpu(), student.grad, rtol=1e-4, atol=1e-6)
