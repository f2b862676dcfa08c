"""Smoothed labels and maximum suppression, of images and of positions, against oracles and closed forms."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import LossConfig
from distill.errors import UserError
from distill.losses import cross_entropy, in_uniform, label_loss, make_loss, max_suppression
from tests.losses.slow_losses import K, N, draw, mixed, slow_hard, slow_sequence_loss, slow_target


def test_a_worked_example_of_four_samples():
    """A tutorial's numbers in float32, whose rounding is up to 6e-8 here: ε = 0.1, uniform."""
    logits = [[2.0, 0.5, -1.0], [0.1, 1.8, 0.2], [1.2, 0.7, 0.3], [0.0, -0.2, 2.4]]
    student = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    labels = [0, 1, 0, 2]
    for convention in ("others", "uniform"):
        loss = cross_entropy(student, torch.tensor(labels), 0.1, convention)
        slow = fmean(slow_hard(z, label, 0.1, convention) for z, label in zip(logits, labels, strict=True))
        assert loss.item() == pytest.approx(slow, rel=1e-12)
    loss.backward()
    assert loss.item() == pytest.approx(0.47310787, abs=6e-8)
    in_float32 = cross_entropy(torch.tensor(logits), torch.tensor(labels), [0.1] * 3)
    assert in_float32.item() == pytest.approx(0.47310787, abs=1e-8)
    expected = [
        [-0.0369, 0.0355, 0.0014],
        [0.0247, -0.0528, 0.0281],
        [-0.1091, 0.0670, 0.0422],
        [0.0111, 0.0076, -0.0187],
    ]
    torch.testing.assert_close(student.grad, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5.1e-5)


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
    assert in_uniform(0.09, "others", 10) == pytest.approx(0.1)
    assert in_uniform(0.0, "others", 10) == 0


@pytest.mark.parametrize(("others", "classes"), [(0.9, 10), (0.5, 2), (0.1, 1)])
def test_smoothing_that_leaves_the_label_no_more_than_the_others_is_refused(others, classes):
    with pytest.raises(UserError, match="Lower the smoothing"):
        in_uniform(others, "others", classes)


@pytest.mark.parametrize("smoothing", [0.1, 0.6])
def test_label_smoothing_at_the_logits_is_a_penalty_on_the_label(smoothing):
    """Cross-entropy of uniformly smoothed labels is that of hard ones plus ε (z_label - mean z), per sample."""
    student, labels, _ = draw(n=64, k=10)
    for z, label in zip(student, labels, strict=True):
        penalty = smoothing * (z[label] - z.mean())
        expected = cross_entropy(z[None], label[None]) + penalty
        torch.testing.assert_close(cross_entropy(z[None], label[None], smoothing), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strength", [0.1, 0.6])
def test_max_suppression_is_label_smoothing_where_the_network_is_right(strength):
    student, labels, _ = draw(n=64, k=10)
    right = student.argmax(1) == labels
    assert 0 < right.sum() < len(labels)
    for z, label, is_right in zip(student, labels, right, strict=True):
        suppressed = max_suppression(z[None], label[None], strength).item()
        smoothed = cross_entropy(z[None], label[None], strength).item()
        if is_right:
            assert suppressed == pytest.approx(smoothed, rel=1e-12)
        else:
            assert suppressed - smoothed == pytest.approx(strength * (z.max() - z[label]).item(), rel=1e-9)
            assert suppressed > smoothed


def test_max_suppression_pulls_at_the_largest_logit():
    """Its gradient is p - y + ε (e_max - 1/K) per sample; label smoothing has e_label for e_max."""
    student, labels, _ = draw(n=64, k=10)
    max_suppression(student, labels, 0.3).backward()
    z = student.detach()
    largest = F.one_hot(z.argmax(1), 10)
    expected = torch.softmax(z, 1) - F.one_hot(labels, 10) + 0.3 * (largest - 1 / 10)
    torch.testing.assert_close(student.grad, expected / 64)


def test_max_suppression_of_nothing_is_cross_entropy():
    student, labels, _ = draw()
    assert torch.equal(max_suppression(student, labels, 0), cross_entropy(student, labels))


def test_max_suppression_of_a_mixed_label_suppresses_the_same_logit():
    student, labels, _ = draw()
    shares = mixed(labels, K).double()
    added = max_suppression(student, shares, 0.2) - cross_entropy(student, shares)
    of_classes = max_suppression(student, labels, 0.2) - cross_entropy(student, labels)
    torch.testing.assert_close(added, of_classes)
    expected = (
        sum(slow_hard(z, y, 0.2, "maxsup") for z, y in zip(student.tolist(), shares.tolist(), strict=True)) / N
    )
    assert max_suppression(student, shares, 0.2).item() == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**31), st.floats(-30, 30), st.floats(0, 0.99))
@settings(deadline=None)
def test_max_suppression_does_not_mind_a_shift(seed, shift, strength) -> None:
    student, labels, _ = draw(seed=seed)
    shifted = student.detach() + shift
    found = max_suppression(shifted, labels, strength).item()
    assert found == pytest.approx(max_suppression(student, labels, strength).item(), abs=1e-10)


def test_no_smoothed_label_equals_max_suppression():
    with pytest.raises(UserError, match="label_loss"):
        in_uniform(0.1, "maxsup", 10)
    with pytest.raises(UserError, match="smoothing_convention"):
        cross_entropy(*draw()[:2], 0.1, "maxsup")
    assert in_uniform(0, "maxsup", 10) == 0


def draw_sequences(n: int, positions: int, seed: int):
    """Logits [n, t, k] and labels [n, t], of which at least the first position counts."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, positions, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (n, positions), generator=generator)
    ignored = torch.rand(n, positions, generator=generator) < 0.4
    ignored[0, 0] = False
    return logits, labels.masked_fill(ignored, -100)


SEQUENCES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
SMOOTHING = st.tuples(st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from(["uniform", "others", "maxsup"]))


@given(SEQUENCES, SMOOTHING)
@settings(deadline=None)
def test_labels_per_position_against_loops(shape, how) -> None:
    logits, labels = draw_sequences(*shape)
    found = label_loss(logits, labels, *how)
    assert found.item() == pytest.approx(slow_sequence_loss(logits, labels, *how), rel=1e-12)


@given(SEQUENCES, SMOOTHING)
@settings(deadline=None)
def test_labels_per_position_are_the_flat_loss_of_those_that_count(shape, how) -> None:
    logits, labels = draw_sequences(*shape)
    logits.requires_grad_()
    counts = labels != -100
    flat = logits.detach()[counts].requires_grad_()
    found, expected = label_loss(logits, labels, *how), label_loss(flat, labels[counts], *how)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,), (of_flat,) = torch.autograd.grad(found, logits), torch.autograd.grad(expected, flat)
    torch.testing.assert_close(gradient[counts], of_flat, rtol=1e-12, atol=1e-14)
    assert not gradient[~counts].any()


@given(SEQUENCES, SMOOTHING, st.floats(-50, 50))
@settings(deadline=None)
def test_what_padding_says_has_no_influence(shape, how, said) -> None:
    logits, labels = draw_sequences(*shape)
    padding = labels == -100
    other = logits.clone()
    other[padding] = said * torch.linspace(-1, 1, K, dtype=torch.float64)
    logits.requires_grad_()
    other.requires_grad_()
    longer = torch.cat([logits, torch.full_like(logits, 7.0)], 1)
    found, changed = label_loss(logits, labels, *how), label_loss(other, labels, *how)
    padded = label_loss(longer, torch.cat([labels, torch.full_like(labels, -100)], 1), *how)
    assert found.item() == pytest.approx(changed.item(), rel=1e-14)
    assert found.item() == pytest.approx(padded.item(), rel=1e-12)
    (one,), (two,) = torch.autograd.grad(found, logits), torch.autograd.grad(changed, other)
    torch.testing.assert_close(one, two, rtol=1e-14, atol=0)


@pytest.mark.parametrize("convention", ["uniform", "others", "maxsup"])
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
