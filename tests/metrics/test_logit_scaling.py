"""Maps fitted on held-out data: against other optimisers, closed forms, and data that have no clean answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from distill.errors import UserError
from distill.metrics import logit_scaling
from distill.metrics.accuracy import accuracy, nll
from distill.metrics.calibration_error import ece, ece_classwise
from distill.metrics.temperature import fit_temperature
from tests.metrics.drawn import calibrated

METHODS = ("temperature", "vector", "platt")


def distorted(seed: int, n: int = 4_000, k: int = 4):
    """Draw calibrated logits, and give each class another scale and bias."""
    logits, labels = calibrated(seed, n, k)
    return logits * torch.linspace(0.5, 3, k) + torch.linspace(-1, 2, k), labels


def test_temperature_is_temperature_scaling():
    logits, labels = distorted(0)
    fitted = logit_scaling.fit("temperature", logits, labels)
    assert 1 / fitted.scale.item() == pytest.approx(fit_temperature(logits, labels))
    assert torch.allclose(fitted.apply(logits), logits / fit_temperature(logits, labels))


def test_none_leaves_logits_alone():
    logits, labels = distorted(0, 10)
    assert torch.equal(logit_scaling.fit("none", logits, labels).apply(logits), logits)
    assert torch.equal(logit_scaling.identity().apply(logits), logits)


def test_vector_undoes_what_was_done_to_each_class():
    logits, labels = distorted(1, 40_000)
    fitted = logit_scaling.fit("vector", logits, labels)
    assert fitted.scale.tolist() == pytest.approx((1 / torch.linspace(0.5, 3, 4)).tolist(), rel=0.08)
    expected = -torch.linspace(-1, 2, 4) / torch.linspace(0.5, 3, 4)
    assert fitted.bias.tolist() == pytest.approx((expected - expected.mean()).tolist(), abs=0.08)
    assert ece_classwise(fitted.apply(logits), labels) < 0.01 < 0.05 < ece_classwise(logits, labels)


def test_vector_against_the_optimiser_of_torch():
    """torch's LBFGS on the plain NLL: the ridge is hardly seen."""
    logits, labels = distorted(2, 1_500)
    parameters = torch.stack([torch.ones(4), torch.zeros(4)]).double().requires_grad_()
    optimiser = torch.optim.LBFGS([parameters], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure():
        optimiser.zero_grad()
        loss = F.cross_entropy(logits * parameters[0] + parameters[1], labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    fitted = logit_scaling.fit("vector", logits, labels)
    assert nll(fitted.apply(logits), labels) == pytest.approx(closure().item(), abs=1e-6)
    assert torch.allclose(fitted.scale, parameters[0].detach(), rtol=4e-3)
    assert fitted.bias.mean().item() == pytest.approx(0, abs=1e-12)


def test_log_odds_are_those_of_the_softmax():
    logits, _ = distorted(3, 200)
    p = logits.softmax(1)
    assert torch.allclose(logit_scaling.log_odds(logits), (p / (1 - p)).log())


@pytest.mark.parametrize("gap", [50.0, 1e4])
def test_log_odds_do_not_cancel(gap):
    """1 - p of the largest is the others' sum, which float64 rounds to 0 in 1 - p."""
    odds = logit_scaling.log_odds(torch.tensor([[gap, 0.0, 0.0]], dtype=torch.float64))
    assert odds[0].tolist() == pytest.approx([gap - math.log(2), -gap, -gap])


def test_platt_against_logistic_regression():
    """Each smoothed target is two samples, one of each answer, with the target as weight."""
    logits, labels = distorted(4, 600)
    fitted = logit_scaling.fit("platt", logits, labels)
    odds = logit_scaling.log_odds(logits).numpy()
    for k in range(4):
        positive = (labels == k).numpy()
        count = positive.sum()
        targets = np.where(positive, (count + 1) / (count + 2), 1 / (len(labels) - count + 2))
        twice = np.concatenate([odds[:, k], odds[:, k]])[:, None]
        answers, weights = np.repeat([1, 0], len(labels)), np.concatenate([targets, 1 - targets])
        found = LogisticRegression(C=math.inf, tol=1e-10).fit(twice, answers, sample_weight=weights)
        assert fitted.scale[k].item() == pytest.approx(found.coef_.item(), rel=1e-4)
        assert fitted.bias[k].item() == pytest.approx(found.intercept_.item(), abs=1e-4)


def test_platt_gives_the_normalised_sigmoids():
    logits, labels = distorted(5, 300)
    fitted = logit_scaling.fit("platt", logits, labels)
    sigmoids = torch.sigmoid(fitted.scale * logit_scaling.log_odds(logits) + fitted.bias)
    expected = sigmoids / sigmoids.sum(1, keepdim=True)
    assert torch.allclose(fitted.apply(logits).softmax(1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_fitted_on_some_images_helps_on_others(method):
    logits, labels = distorted(6, 8_000)
    fitted = logit_scaling.fit(method, logits[:4_000], labels[:4_000])
    rest, right = logits[4_000:], labels[4_000:]
    assert nll(fitted.apply(rest), right) < nll(rest, right)
    assert ece(fitted.apply(rest), right) < ece(rest, right)


def test_only_a_temperature_leaves_the_answers_alone():
    logits, labels = distorted(7)
    after = {method: logit_scaling.fit(method, logits, labels).apply(logits).argmax(1) for method in METHODS}
    assert torch.equal(after["temperature"], logits.argmax(1))
    for method in ("vector", "platt"):
        assert accuracy(F.one_hot(after[method]).double(), labels) > accuracy(logits, labels) + 0.01


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    labelled=st.sampled_from(["any", "right", "wrong", "one"]),
    method=st.sampled_from(METHODS),
)
@settings(deadline=None, max_examples=60)
def test_never_not_a_number(seed, n, scale, labelled, method):
    """Few samples, all right, all wrong, classes that none has, equal logits, logits of thousands."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, 5, generator=generator)
    labels = {
        "any": torch.randint(5, (n,), generator=generator),
        "right": logits.argmax(1),
        "wrong": logits.argmin(1),
        "one": torch.zeros(n, dtype=torch.int64),
    }[labelled]
    fitted = logit_scaling.fit(method, logits, labels)
    assert torch.isfinite(fitted.scale).all()
    assert torch.isfinite(fitted.bias).all()
    assert torch.isfinite(fitted.apply(logits)).all()
    assert torch.isfinite(fitted.apply(logits).softmax(1)).all()


def test_a_class_that_held_out_data_lack_keeps_its_probability():
    logits, labels = calibrated(8, 2_000, 4)
    seen = labels != 3
    fitted = logit_scaling.fit("platt", logits[seen], labels[seen])
    assert (fitted.scale[3].item(), fitted.bias[3].item()) == (1, 0)
    of_class = logit_scaling.fit("vector", logits[seen], labels[seen])
    assert of_class.bias[3] < of_class.bias[:3].min()
    assert of_class.bias.abs().max() < 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rows", "said"), [(0, "no images"), (1, "not finite")])
def test_no_data_and_logits_that_diverged_are_refused_in_a_line(method, rows, said):
    with pytest.raises(UserError, match=said) as raised:
        logit_scaling.fit(method, torch.full((rows, 3), math.nan), torch.zeros(rows, dtype=torch.int64))
    assert "\n" not in str(raised.value)
