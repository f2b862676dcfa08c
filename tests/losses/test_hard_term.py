"""Smoothing by matrix, by step and by sample, and the confidence penalty, against oracles and torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import SOFT_TERMS, LabelsConfig, LossConfig
from distill.errors import UserError
from distill.losses import cross_entropy, has_one_smoothing, label_loss, make_loss, max_suppression
from distill.losses.matrices import smoothed, towards_all, towards_given
from tests.losses.slow_losses import K, draw, mixed, slow_gradient, slow_loss, slow_target
from tests.losses.slow_smoothing import slow_labels

CLASSES = [str(name) for name in range(K)]
SHARES = towards_given([[0, 5, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1], [3, 1, 2, 0]], CLASSES)
MATRIX = smoothed(0.3, SHARES, dtype=torch.float64)
PLACED = {"towards": "matrix", "kwargs": {"rows": []}}


def configs() -> list[LossConfig]:
    made = []
    for convention in ("uniform", "others"):
        for by_sample in ("none", "difficulty", "confidence"):
            for more in ({}, {"schedule": "linear", "first": 0.5}, {"confidence_penalty": 0.4}):
                labels = LabelsConfig(by_sample=by_sample, **more)
                made.append(LossConfig(alpha=0, smoothing=0.3, smoothing_convention=convention, labels=labels))
    for more in ({}, {"schedule": "cosine"}, {"by_sample": "difficulty"}, {"by_sample": "confidence"}):
        made += [
            LossConfig(alpha=0, smoothing=0.3, labels=LabelsConfig(**PLACED, **more, confidence_penalty=penalty))
            for penalty in (0, 0.4)
        ]
    for more in ({"schedule": "warm-down"}, {"schedule": "linear", "first": 2}, {"confidence_penalty": 0.4}):
        labels = LabelsConfig(**more)
        made.append(LossConfig(alpha=0, smoothing=0.3, smoothing_convention="maxsup", labels=labels))
    return [*made, LossConfig(alpha=0, labels=LabelsConfig(confidence_penalty=0.4))]


CONFIGS = configs()


def given_to(config: LossConfig) -> torch.Tensor | None:
    return MATRIX if config.labels.towards == "matrix" else None


def names(config: LossConfig) -> str:
    how = config.labels.model_dump(exclude_defaults=True, exclude={"kwargs"})
    return f"{config.smoothing_convention} {how}"


@pytest.mark.parametrize("mixing", [False, True], ids=["classes", "mixed"])
@pytest.mark.parametrize("config", CONFIGS, ids=names)
def test_value_and_gradient_against_loops(config, mixing):
    student, labels, _ = draw()
    labels = mixed(labels, K).double() if mixing else labels
    matrix = given_to(config)
    rows, at = None if matrix is None else matrix.tolist(), student.tolist()
    for progress in (0.0, 0.3, 0.8, 1.0):
        terms = make_loss(config, matrix)(student, labels, None, progress)
        expected = slow_labels(at, labels.tolist(), config, rows, progress)
        assert terms.total.item() == pytest.approx(expected, rel=1e-12)
        assert terms.hard is not None
        assert terms.hard.item() == terms.total.item()
        (found,) = torch.autograd.grad(terms.total, student)
        gradient = slow_gradient(
            lambda z, p=progress: slow_labels(z, labels.tolist(), config, rows, p, at), at, step=1e-5
        )
        torch.testing.assert_close(found, torch.tensor(gradient, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.labels.by_sample == "none"], ids=names)
def test_gradcheck(config):
    student, labels, _ = draw(n=3)
    loss = make_loss(config, given_to(config))
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, None, 0.3).total, student)


@pytest.mark.parametrize("config", CONFIGS, ids=names)
@pytest.mark.parametrize("ignored", [-100, 0])
def test_positions_are_the_flat_loss_of_those_that_count(config, ignored):
    """Padding 0 is a class too: none of its positions counts. All of one sample's may be padding."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, 5, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(1, K, (3, 5), generator=generator)
    labels[0, 3:] = ignored
    labels[2] = ignored
    logits.requires_grad_()
    counts = labels != ignored
    flat = logits.detach()[counts].requires_grad_()
    how = {
        "smoothing": 0.0 if given_to(config) is not None else config.smoothing,
        "convention": config.smoothing_convention,
        "matrix": given_to(config),
        "factor": 0.7,
        "by_sample": config.labels.by_sample,
        "confidence_penalty": config.labels.confidence_penalty,
    }
    found = label_loss(logits, labels, **how, ignore_index=ignored)
    expected = label_loss(flat, labels[counts], **how)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    (gradient,), (of_flat,) = torch.autograd.grad(found, logits), torch.autograd.grad(expected, flat)
    torch.testing.assert_close(gradient[counts], of_flat, rtol=1e-12, atol=1e-14)
    assert not gradient[~counts].any()
    nothing = label_loss(logits, torch.full_like(labels, ignored), **how, ignore_index=ignored)
    assert nothing.isnan()


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([-100, 0]),
    st.sampled_from([0.0, 0.1, 0.6]),
    st.integers(0, 2**31),
)
@settings(deadline=None, max_examples=40)
def test_tokens_are_as_torch_has_them(n, positions, ignored, smoothing, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, positions, K, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    labels = torch.randint(K, (n, positions), generator=generator)
    labels[-1, :] = ignored
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=ignored)
    expected = theirs(logits.transpose(1, 2), labels)
    (of_theirs,) = torch.autograd.grad(expected, logits)
    matrix = smoothed(smoothing, towards_all(K), dtype=torch.float64)
    for found in (
        cross_entropy(logits, labels, smoothing, ignore_index=ignored),
        cross_entropy(logits, labels, matrix=matrix, ignore_index=ignored),
        cross_entropy(logits, labels, [smoothing] * K, ignore_index=ignored),
        cross_entropy(logits, labels, smoothing * (K - 1) / K, "others", ignore_index=ignored),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert found.isnan() == bool((labels == ignored).all())
        if not found.isnan():
            (gradient,) = torch.autograd.grad(found, logits, retain_graph=True)
            torch.testing.assert_close(gradient, of_theirs, rtol=1e-12, atol=1e-14)


@given(st.integers(2, 50), st.floats(0.01, 0.45), st.integers(0, 2**31))
@settings(deadline=None)
def test_by_how_much_the_conventions_differ(classes, smoothing, seed):
    """One ε gives the label 1-ε+ε/K and 1-ε; "others" charges ε/(K-1) (z_label - mean z) more, per sample."""
    student, labels, _ = draw(n=6, k=classes, seed=seed)
    uniform, others = (slow_target(0, classes, smoothing, how) for how in ("uniform", "others"))
    assert uniform[0] == pytest.approx(1 - smoothing + smoothing / classes)
    assert others[0] == pytest.approx(1 - smoothing)
    z = student.detach()
    of_label = z.gather(1, labels.unsqueeze(1)).squeeze(1) - z.mean(1)
    expected = smoothing / (classes - 1) * of_label.mean()
    found = cross_entropy(z, labels, smoothing, "others") - cross_entropy(z, labels, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    converted = smoothing * classes / (classes - 1)
    torch.testing.assert_close(
        cross_entropy(z, labels, smoothing, "others"), cross_entropy(z, labels, converted), rtol=1e-12, atol=1e-12
    )


def test_a_sure_network_at_ten_classes_pays_a_tenth_more_in_the_other_convention():
    z = torch.zeros(1, 10, dtype=torch.float64)
    z[0, 3] = 10
    label = torch.tensor([3])
    assert (cross_entropy(z, label, 0.1, "others") - cross_entropy(z, label, 0.1)).item() == pytest.approx(0.1)


def test_the_gradient_is_p_minus_the_target_plus_that_of_the_penalty():
    student, labels, _ = draw()
    label_loss(student, labels, matrix=MATRIX, confidence_penalty=0.4).backward()
    p = torch.softmax(student.detach(), 1)
    entropy = -(p * p.log()).sum(1, keepdim=True)
    expected = p - MATRIX[labels] + 0.4 * p * (p.log() + entropy)
    torch.testing.assert_close(student.grad, expected / len(labels))


@pytest.mark.parametrize("convention", ["uniform", "others"])
def test_an_epsilon_per_class_is_that_of_its_label(convention):
    student, labels, _ = draw(n=40)
    each = [0.0, 0.1, 0.2, 0.3]
    found = cross_entropy(student, labels, each, convention)
    one_by_one = [
        cross_entropy(z[None], y[None], each[y], convention) for z, y in zip(student, labels, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(one_by_one).mean())


def test_a_schedule_that_is_at_nothing_is_the_plain_loss():
    student, labels, _ = draw()
    loss = make_loss(LossConfig(alpha=0, smoothing=0.3, labels=LabelsConfig(schedule="linear")))
    assert torch.equal(loss(student, labels, None, 0.0).total, cross_entropy(student, labels))
    assert torch.equal(loss(student, labels, None, 1.0).total, cross_entropy(student, labels, 0.3))


@pytest.mark.parametrize("convention", ["uniform", "others"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.37])
def test_the_usual_loss_is_torch_s_to_the_bit(convention, smoothing):
    student, labels, _ = draw(n=128, k=10, dtype=torch.float32)
    total = make_loss(LossConfig(alpha=0, smoothing=smoothing, smoothing_convention=convention))(student, labels)
    uniform = smoothing * 10 / 9 if convention == "others" else smoothing
    expected = F.cross_entropy(student, labels, label_smoothing=uniform)
    assert torch.equal(total.total, expected)
    assert torch.equal(*(torch.autograd.grad(x, student)[0] for x in (total.total, expected)))


@pytest.mark.parametrize("n", [1, 7, 128, 1000])
def test_max_suppression_is_to_the_bit_what_it_was(n):
    student, labels, _ = draw(n=n, k=10, dtype=torch.float32)
    excess = student.amax(-1) - student.mean(-1)  # first: gradients are added up in this order
    expected = F.cross_entropy(student, labels) + 0.1 * excess.mean()
    found = max_suppression(student, labels, 0.1)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(x, student)[0] for x in (found, expected)))


@pytest.mark.parametrize("soft", SOFT_TERMS)
def test_beside_a_soft_term(soft):
    student, labels, teacher = draw(n=6)
    how = LabelsConfig(**PLACED, by_sample="difficulty", schedule="linear", confidence_penalty=0.2)
    hard = LossConfig(alpha=0, smoothing=0.3, labels=how)
    alone = make_loss(hard, MATRIX)(student, labels, None, 0.4).total
    distilled = make_loss(LossConfig(alpha=1, soft=soft))(student, labels, teacher).total
    both = make_loss(hard.replace(alpha=0.3, soft=soft), MATRIX)(student, labels, teacher, 0.4)
    torch.testing.assert_close(both.total, 0.7 * alone + 0.3 * distilled)
    torch.testing.assert_close(both.hard, alone.detach())
    assert both.soft is not None
    only_soft = make_loss(LossConfig(alpha=1, soft=soft))(student, labels, teacher, 0.4).total
    assert torch.equal(only_soft, distilled)
    gradients = [torch.autograd.grad(x, student, retain_graph=True)[0] for x in (both.total, alone, distilled)]
    torch.testing.assert_close(gradients[0], 0.7 * gradients[1] + 0.3 * gradients[2])
    expected = 0.7 * slow_labels(student.tolist(), labels.tolist(), hard, MATRIX.tolist(), 0.4)
    expected += 0.3 * slow_loss(student.tolist(), labels.tolist(), teacher.tolist(), LossConfig(alpha=1, soft=soft))
    assert both.total.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("config", CONFIGS, ids=names)
def test_half_precision_is_computed_with_in_float32(config):
    student, labels, _ = draw(n=32, dtype=torch.bfloat16)
    wide = student.detach().float().requires_grad_()
    for own in (labels, mixed(labels, K)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total = make_loss(config, given_to(config))(student, own, None, 0.4).total
        expected = make_loss(config, given_to(config))(wide, own, None, 0.4).total
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-6)
        (gradient,), (of_wide,) = torch.autograd.grad(total, student), torch.autograd.grad(expected, wide)
        assert gradient.dtype == torch.bfloat16
        torch.testing.assert_close(gradient, of_wide.bfloat16())


@given(st.sampled_from(CONFIGS), st.sampled_from([0.0, 1e2, 1e4]))
@settings(deadline=None, max_examples=40)
def test_extreme_logits_stay_finite(config, scale):
    student, labels, _ = draw(n=16, scale=1.0, dtype=torch.float32)
    student = (student.detach().clamp(-1, 1) * scale).requires_grad_()
    total = make_loss(config, given_to(config))(student, labels, None, 0.4).total
    total.backward()
    assert total.isfinite()
    assert student.grad.isfinite().all()


def test_a_matrix_is_asked_for_and_only_where_the_config_does():
    per_class, placed = LabelsConfig(per_class=(0.1,) * K), LabelsConfig(**PLACED)
    for config in (LossConfig(alpha=0.5, labels=per_class), LossConfig(alpha=0, smoothing=0.1, labels=placed)):
        with pytest.raises(ValueError, match="matrix = None"):
            make_loss(config)
        for wrong in (MATRIX[:2], 2 * MATRIX, -MATRIX):
            with pytest.raises(ValueError, match="one row per class"):
                make_loss(config, wrong)
    with pytest.raises(ValueError, match="matrix given"):
        make_loss(LossConfig(alpha=0, smoothing=0.1), MATRIX)


def test_a_smoothing_beside_a_matrix_is_refused():
    student, labels, _ = draw()
    for call in (
        lambda: cross_entropy(student, labels, 0.1, matrix=MATRIX),
        lambda: cross_entropy(student, labels, [0.1] * K, matrix=MATRIX),
        lambda: label_loss(student, labels, 0.1, matrix=MATRIX),
        lambda: label_loss(student, labels, 0.0, "maxsup", matrix=MATRIX),
        lambda: label_loss(student, labels, 0.1, "maxsup", by_sample="difficulty"),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()
    with pytest.raises(UserError, match="Lower the smoothing"):
        cross_entropy(student, labels, 0.9, "others")


def test_what_has_one_smoothing():
    assert has_one_smoothing(LossConfig(alpha=0, smoothing=0.1, labels=LabelsConfig(on_mixed=True)))
    assert not has_one_smoothing(LossConfig(alpha=0, labels=LabelsConfig(confidence_penalty=0.1)))
    assert not has_one_smoothing(LossConfig(alpha=0, smoothing=0.1, smoothing_convention="maxsup"))


def test_there_is_no_second_derivative():
    student, labels, _ = draw()
    total = label_loss(student, labels, matrix=MATRIX)
    (gradient,) = torch.autograd.grad(total, student, create_graph=True)
    assert not gradient.requires_grad
    weighted = label_loss(student, labels, matrix=MATRIX) * student.sum()
    (gradient,) = torch.autograd.grad(weighted, student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_second_backward_gives_the_same_gradient():
    student, labels, _ = draw()
    total = label_loss(student, labels, matrix=MATRIX, confidence_penalty=0.1)
    first, second = (torch.autograd.grad(total, student, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
