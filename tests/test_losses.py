"""Losses against oracles in Python loops, for value and gradient, and against closed forms."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import LossConfig
from distill.errors import UserError
from distill.losses import (
    cross_entropy,
    kl_distillation,
    logit_matching,
    make_loss,
    prepare,
    soft_targets,
    uniform_smoothing,
)

N, K = 5, 4


def draw(n: int = N, k: int = K, scale: float = 2.0, seed: int = 0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(n, k, generator=generator, dtype=torch.float64) * scale
    teacher = torch.randn(n, k, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(k, (n,), generator=generator)
    return student.to(dtype).requires_grad_(), labels, teacher.to(dtype)


def slow_softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    top = max(row)
    weights = [math.exp((z - top) / temperature) for z in row]
    return [w / sum(weights) for w in weights]


def slow_target(label: int, classes: int, smoothing: float, convention: str) -> list[float]:
    if convention == "uniform":
        return [(1 - smoothing) * (k == label) + smoothing / classes for k in range(classes)]
    return [1 - smoothing if k == label else smoothing / (classes - 1) for k in range(classes)]


def slow_mixed_target(shares: list[float], smoothing: float, convention: str) -> list[float]:
    """The mean of the classes' targets, weighted by their shares."""
    each = [slow_target(label, len(shares), smoothing, convention) for label in range(len(shares))]
    return [sum(w * target[k] for w, target in zip(shares, each, strict=True)) for k in range(len(shares))]


def slow_loss(student: list[list[float]], labels: list, teacher: list[list[float]], c: LossConfig) -> float:
    total = 0.0
    for z, label, z_t in zip(student, labels, teacher, strict=True):
        of = slow_mixed_target if isinstance(label, list) else partial(slow_target, classes=len(z))
        target = of(label, smoothing=c.smoothing, convention=c.smoothing_convention)
        hard = -sum(y * math.log(p) for y, p in zip(target, slow_softmax(z), strict=True))
        if c.soft == "logit-matching":
            soft = 0.5 * sum((a - b) ** 2 for a, b in zip(z, z_t, strict=True))
        else:
            student_temperature = c.temperature if c.temperature_on == "both" else 1.0
            p_t, p_s = slow_softmax(z_t, c.temperature), slow_softmax(z, student_temperature)
            soft = student_temperature**2 * sum(
                a * (math.log(a) - math.log(b)) for a, b in zip(p_t, p_s, strict=True)
            )
        total += (1 - c.alpha) * hard + c.alpha * soft
    return total / len(student)


def slow_sequence_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float, convention: str) -> float:
    """Mean over the positions that count, of logits [n][t][k] and labels [n][t]."""
    terms = []
    for sentence, own in zip(logits.tolist(), labels.tolist(), strict=True):
        for z, label in zip(sentence, own, strict=True):
            if label != -100:
                target = slow_target(label, len(z), smoothing, convention)
                terms.append(-sum(y * math.log(p) for y, p in zip(target, slow_softmax(z), strict=True)))
    return sum(terms) / len(terms)


def slow_gradient(
    student: list[list[float]], labels: list, teacher: list[list[float]], c: LossConfig
) -> list[list[float]]:
    """Central differences."""
    step = 1e-5
    gradient = []
    for i, row in enumerate(student):
        gradient.append([])
        for k in range(len(row)):
            moved = []
            for sign in (1, -1):
                copy = [list(r) for r in student]
                copy[i][k] += sign * step
                moved.append(slow_loss(copy, labels, teacher, c))
            gradient[-1].append((moved[0] - moved[1]) / (2 * step))
    return gradient


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
    for eps, convention in ((0.0, "uniform"), (0.1, "uniform"), (0.2, "others"))
]


def mixed(labels: torch.Tensor, classes: int, seed: int = 5) -> torch.Tensor:
    """Shares of two classes per sample, as mixup makes them."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.randint(0, 257, (len(labels), 1), generator=generator) / 256
    own = F.one_hot(labels, classes)
    return share * own + (1 - share) * own[torch.randperm(len(labels), generator=generator)]


@pytest.mark.parametrize("is_mixed", [False, True], ids=["classes", "shares"])
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_value_and_gradient_equal_the_slow_oracle(config, is_mixed):
    student, labels, teacher = draw()
    labels = mixed(labels, K) if is_mixed else labels
    total = make_loss(config)(student, labels, teacher).total
    total.backward()
    arguments = student.tolist(), labels.tolist(), teacher.tolist(), config
    assert total.item() == pytest.approx(slow_loss(*arguments), rel=1e-12)
    torch.testing.assert_close(
        student.grad, torch.tensor(slow_gradient(*arguments), dtype=torch.float64), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
@pytest.mark.parametrize("is_mixed", [False, True], ids=["classes", "shares"])
def test_fused_equals_its_readable_twin(config, is_mixed):
    student, labels, teacher = draw(n=64, k=10, seed=1)
    labels = mixed(labels, 10) if is_mixed else labels
    hard = cross_entropy(student, labels, config.smoothing, config.smoothing_convention)
    if config.soft == "kl":
        soft = kl_distillation(student, teacher, config.temperature, config.temperature_on)
    else:
        soft = logit_matching(student, teacher)
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


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
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


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
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


@pytest.mark.parametrize("convention", ["uniform", "others"])
def test_smoothing_gradient_is_p_minus_smoothed_label(convention):
    student, labels, _ = draw()
    cross_entropy(student, labels, 0.3, convention).backward()
    y = torch.tensor([slow_target(label, K, 0.3, convention) for label in labels.tolist()], dtype=torch.float64)
    torch.testing.assert_close(student.grad, (torch.softmax(student.detach(), 1) - y) / N)


def test_the_smoothing_conventions_differ_and_convert():
    student, labels, _ = draw()
    others = cross_entropy(student, labels, 0.1, "others")
    assert abs(others - cross_entropy(student, labels, 0.1, "uniform")).item() > 1e-3
    torch.testing.assert_close(others, cross_entropy(student, labels, 0.1 * K / (K - 1), "uniform"))
    assert uniform_smoothing(0.09, 10) == pytest.approx(0.1)
    assert uniform_smoothing(0.0, 10) == 0


@pytest.mark.parametrize(("others", "classes"), [(0.9, 10), (0.5, 2), (0.1, 1)])
def test_smoothing_that_leaves_the_label_no_more_than_the_others_is_refused(others, classes):
    with pytest.raises(UserError, match="Lower the smoothing"):
        uniform_smoothing(others, classes)


@pytest.mark.parametrize("soft", ["kl", "logit-matching"])
@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_prepared_targets_give_the_same_step_as_the_teachers_logits(soft, alpha):
    student, labels, teacher = draw(n=23, k=7, dtype=torch.float32)
    config = LossConfig(soft=soft, alpha=alpha, temperature=3)
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
    for soft in ("kl", "logit-matching"):
        with pytest.raises(ValueError, match="teacher_logits = None"):
            make_loss(LossConfig(soft=soft))(student, labels, None)


def test_soft_targets_flatten_with_temperature():
    _, _, teacher = draw()
    expected = torch.tensor([slow_softmax(row, 3.0) for row in teacher.tolist()], dtype=torch.float64)
    torch.testing.assert_close(soft_targets(teacher, 3.0), expected)
    assert soft_targets(teacher.half(), 3.0).dtype == torch.float32


@given(
    temperature=st.sampled_from([0.5, 1.0, 4.0, 64.0]),
    temperature_on=st.sampled_from(["both", "teacher"]),
    alpha=st.sampled_from([0.5, 1.0]),
    scale=st.sampled_from([0.0, 1.0, 1e2, 1e4]),
)
@settings(deadline=None, max_examples=40)
def test_extreme_logits_stay_finite(temperature, temperature_on, alpha, scale):
    student, labels, teacher = draw(n=16, k=10, scale=1.0, dtype=torch.float32)
    student = (student.detach().clamp(-1, 1) * scale).requires_grad_()
    config = LossConfig(alpha=alpha, temperature=temperature, temperature_on=temperature_on, smoothing=0.1)
    total = make_loss(config)(student, labels, teacher.clamp(-1, 1) * scale).total
    total.backward()
    assert total.isfinite()
    assert total.item() >= -1e-2
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
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


@pytest.mark.parametrize("config", CONFIGS[::4], ids=repr)
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
@pytest.mark.parametrize("config", CONFIGS, ids=repr)
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


def draw_sequences(n: int, positions: int, seed: int):
    """Logits [n, t, k] and labels [n, t], of which at least the first position counts."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, positions, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (n, positions), generator=generator)
    ignored = torch.rand(n, positions, generator=generator) < 0.4
    ignored[0, 0] = False
    return logits, labels.masked_fill(ignored, -100)


SEQUENCES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
SMOOTHING = st.tuples(st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from(["uniform", "others"]))


@given(SEQUENCES, SMOOTHING)
def test_labels_per_position_against_loops(shape, how) -> None:
    logits, labels = draw_sequences(*shape)
    found = cross_entropy(logits, labels, *how)
    assert found.item() == pytest.approx(slow_sequence_loss(logits, labels, *how), rel=1e-12)


@given(SEQUENCES, SMOOTHING)
def test_labels_per_position_are_the_flat_loss_of_those_that_count(shape, how) -> None:
    logits, labels = draw_sequences(*shape)
    logits.requires_grad_()
    counts = labels != -100
    flat = logits.detach()[counts].requires_grad_()
    found, expected = cross_entropy(logits, labels, *how), cross_entropy(flat, labels[counts], *how)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,), (of_flat,) = torch.autograd.grad(found, logits), torch.autograd.grad(expected, flat)
    torch.testing.assert_close(gradient[counts], of_flat, rtol=1e-12, atol=1e-14)
    assert not gradient[~counts].any()


@given(SEQUENCES, SMOOTHING, st.floats(-50, 50))
def test_what_padding_says_has_no_influence(shape, how, said) -> None:
    logits, labels = draw_sequences(*shape)
    padding = labels == -100
    other = logits.clone()
    other[padding] = said * torch.linspace(-1, 1, K, dtype=torch.float64)
    logits.requires_grad_()
    other.requires_grad_()
    longer = torch.cat([logits, torch.full_like(logits, 7.0)], 1)
    found, changed = cross_entropy(logits, labels, *how), cross_entropy(other, labels, *how)
    padded = cross_entropy(longer, torch.cat([labels, torch.full_like(labels, -100)], 1), *how)
    assert found.item() == pytest.approx(changed.item(), rel=1e-14)
    assert found.item() == pytest.approx(padded.item(), rel=1e-12)
    (one,), (two,) = torch.autograd.grad(found, logits), torch.autograd.grad(changed, other)
    torch.testing.assert_close(one, two, rtol=1e-14, atol=0)


@pytest.mark.parametrize("convention", ["uniform", "others"])
def test_a_step_on_sequences_takes_half_precision(convention) -> None:
    logits, labels = draw_sequences(3, 4, seed=0)
    half = logits.bfloat16().requires_grad_()
    terms = make_loss(LossConfig(alpha=0, smoothing=0.1, smoothing_convention=convention))(half, labels, None)
    assert terms.total.dtype == torch.float32
    assert terms.total.item() == pytest.approx(slow_sequence_loss(half.detach(), labels, 0.1, convention), rel=1e-5)
    terms.total.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert not half.grad[labels == -100].any()
