"""Class weights of the hard term, against torch's own and against loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import IGNORED, LabelsConfig, LossConfig
from distill.errors import UserError
from distill.losses import has_one_smoothing, in_uniform, kl_distillation, label_loss, make_loss
from distill.losses.matrices import smoothed, towards_given
from tests.losses.slow_losses import K, draw, mixed, slow_gradient, slow_softmax
from tests.losses.slow_smoothing import slow_factor, slow_rows, slow_sample_factor

WEIGHTS = (0.2, 3.0, 1.0, 0.7)
TENSOR = torch.tensor(WEIGHTS, dtype=torch.float64)
SHARES = towards_given([[0, 5, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1], [3, 1, 2, 0]], [str(name) for name in range(K)])
PLACED = {"towards": "matrix", "kwargs": {"rows": []}}
MATRIX = smoothed(0.3, SHARES, dtype=torch.float64)


def config(**fields) -> LossConfig:
    return LossConfig(**{"alpha": 0, "class_weights": WEIGHTS} | fields)


@given(
    st.integers(1, 9), st.integers(2, 6), st.sampled_from(["uniform", "others"]), st.booleans(), st.integers(0, 99)
)
@settings(deadline=None)  # the first call takes long
def test_it_is_torchs_cross_entropy_with_weights(n, classes, convention, mixing, seed):
    student, labels, _ = draw(n, classes, seed=seed)
    labels = mixed(labels, classes).double() if mixing else labels
    weights = 0.1 + 3 * torch.rand(classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    given = LossConfig(
        alpha=0, smoothing=0.3, smoothing_convention=convention, class_weights=tuple(weights.tolist())
    )
    uniform = in_uniform(0.3, convention, classes)
    expected = F.cross_entropy(student, labels, weights, label_smoothing=uniform)
    found = make_loss(given, None, weights)(student, labels).total
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(value, student)[0] for value in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def slow_weighted(
    logits: list, labels: list, c: LossConfig, matrix: list | None, progress: float, at: list
) -> float:
    rows, total, weight = slow_rows(c, K, matrix), 0.0, 0.0
    for z, label, fixed in zip(logits, labels, at, strict=True):
        if label == IGNORED:
            continue
        shares = label if isinstance(label, list) else [float(k == label) for k in range(K)]
        f = slow_factor(c, progress) * slow_sample_factor(c.labels.by_sample, fixed, shares)
        soft = [sum(share * rows[y][k] for y, share in enumerate(shares)) for k in range(K)]
        target = [(1 - f) * share + f * other for share, other in zip(shares, soft, strict=True)]
        total -= sum(w * t * math.log(p) for w, t, p in zip(WEIGHTS, target, slow_softmax(z), strict=True))
        weight += 1.0 if isinstance(label, list) else WEIGHTS[label]
    return total / weight


@pytest.mark.parametrize("kind", ["classes", "mixed", "one ignored"])
@pytest.mark.parametrize(
    "labels",
    [{}, {"schedule": "linear", "first": 0.5}, {"by_sample": "difficulty"}, {"by_sample": "confidence"},
     PLACED, PLACED | {"schedule": "cosine"}],
    ids=lambda how: " ".join(map(str, how.values())) or "plain",
)  # fmt: skip
def test_value_and_gradient_against_loops(labels, kind):
    student, classes, _ = draw()
    given = {"classes": classes, "mixed": mixed(classes, K).double(), "one ignored": classes.clone()}[kind]
    if kind == "one ignored":
        given[1] = IGNORED
    c = config(smoothing=0.3, labels=LabelsConfig(**labels))
    matrix = MATRIX if "towards" in labels else None
    rows, at = None if matrix is None else matrix.tolist(), student.tolist()
    for progress in (0.3, 1.0):
        found = make_loss(c, matrix, TENSOR)(student, given, None, progress).total
        assert found.item() == pytest.approx(slow_weighted(at, given.tolist(), c, rows, progress, at), rel=1e-12)
        (gradient,) = torch.autograd.grad(found, student)
        slow = slow_gradient(lambda z, p=progress: slow_weighted(z, given.tolist(), c, rows, p, at), at)
        torch.testing.assert_close(gradient, torch.tensor(slow, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("temperature_on", ["both", "teacher"])
def test_the_soft_term_has_no_weights(temperature_on):
    student, labels, teacher = draw()
    terms = make_loss(config(alpha=0.4, temperature_on=temperature_on), None, TENSOR)(student, labels, teacher)
    hard, soft = F.cross_entropy(student, labels, TENSOR), kl_distillation(student, teacher, 4.0, temperature_on)
    torch.testing.assert_close(terms.total, 0.6 * hard + 0.4 * soft)
    torch.testing.assert_close(terms.soft, soft.detach())
    torch.testing.assert_close(terms.hard, hard.detach())


def test_equal_weights_are_none_whatever_their_size():
    student, labels, _ = draw()
    plain = make_loss(LossConfig(alpha=0, smoothing=0.1))(student, labels).total
    same = make_loss(config(smoothing=0.1, class_weights=(7.0,) * K), None, torch.full((K,), 7.0))
    torch.testing.assert_close(same(student, labels).total, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_with_in_float32(dtype):
    student, labels, _ = draw(dtype=dtype)
    loss = make_loss(config(smoothing=0.1), None, TENSOR)(student, labels).total
    expected = F.cross_entropy(student.detach().float(), labels, TENSOR.float(), label_smoothing=0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss.detach(), expected)


def test_weights_are_given_where_the_config_asks_for_them_and_only_there():
    for c, weights in ((config(), None), (LossConfig(alpha=0), TENSOR)):
        with pytest.raises(ValueError, match="weights: expected one per class"):
            make_loss(c, None, weights)
    student, labels, _ = draw()
    for how in ({"convention": "maxsup"}, {"confidence_penalty": 0.1}):
        with pytest.raises(ValueError, match="weights: expected none"):
            label_loss(student, labels, 0.1, weights=TENSOR, **how)
    assert not has_one_smoothing(config())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_weights": (1, -1)}, "balanced, or a positive number for each class"),
        ({"class_weights": (1, math.nan)}, "balanced, or a positive number for each class"),
        ({"class_weights": "inverse"}, "balanced, or a positive number for each class"),
        ({"class_weights": 3}, "balanced, or a positive number for each class"),
        ({"class_weights": "balanced", "alpha": 1}, "none at alpha = 1.*Lower `loss.alpha`"),
        ({"class_weights": "balanced", "smoothing": 0.1, "smoothing_convention": "maxsup"}, "maximum suppression"),
        ({"class_weights": "balanced", "labels": {"confidence_penalty": 0.1}}, "confidence penalty"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(fields, message):
    with pytest.raises(UserError, match=rf"^loss\.class_weights = .*{message}"):
        LossConfig(**{"alpha": 0} | fields)
