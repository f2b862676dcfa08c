"""Bits beyond the top-1 answer: loops, networks whose posterior is known, and what may not matter."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.metrics.beyond_top1 import _folds, bits_beyond_top1
from distill.metrics.temperature import fit_temperature

seeds = st.integers(0, 10_000)
BITS = math.log(2)


def draw(seed: int, n: int = 100, k: int = 4, scale: float = 1.5):
    """Logits that are the logarithm of the label's true probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)


def values(logits: torch.Tensor, labels: torch.Tensor, folds: int = 5) -> dict[str, float]:
    return vars(bits_beyond_top1(logits, labels, folds))


def slow(logits: torch.Tensor, labels: torch.Tensor, folds: int) -> dict[str, float]:
    """The four predictors, one sample at a time."""
    k, y = logits.shape[1], labels.tolist()
    said = logits.argmax(1).tolist()
    fold_of = _folds(logits.argmax(1) != labels, folds).tolist()
    nothing, answer, confidence, everything = 0.0, 0.0, 0.0, 0.0
    for i in range(len(y)):
        rest = [j for j in range(len(y)) if fold_of[j] != fold_of[i]]
        alike = [y[j] for j in rest if said[j] == said[i]]
        errors = [label for label in alike if label != said[i]]
        p = torch.softmax(logits[i].double() / fit_temperature(logits[rest], labels[rest]), 0).tolist()
        q = p[said[i]]
        nothing -= math.log2(([y[j] for j in rest].count(y[i]) + 1 / k) / (len(rest) + 1))
        answer -= math.log2((alike.count(y[i]) + 1 / k) / (len(alike) + 1))
        of_wrong = (errors.count(y[i]) + 1 / (k - 1)) / (len(errors) + 1)
        confidence -= math.log2(q if y[i] == said[i] else (1 - q) * of_wrong)
        everything -= math.log2(p[y[i]])
    return {
        "total": (answer - everything) / len(y),
        "confidence": (answer - confidence) / len(y),
        "classes": (confidence - everything) / len(y),
        "known": (nothing - everything) / len(y),
    }


@pytest.mark.parametrize(("k", "folds"), [(2, 2), (4, 5), (7, 3)])
def test_against_loops(k, folds):
    logits, labels = draw(0, 60, k)
    assert values(logits, labels, folds) == pytest.approx(slow(logits, labels, folds), rel=1e-9)
    assert values(logits.float(), labels, folds) == pytest.approx(slow(logits.float(), labels, folds), rel=1e-9)


def of_truth(logits: torch.Tensor) -> dict[str, float]:
    """What a network knows whose probabilities are the true ones: entropies of these and of their means."""

    def entropy(p: torch.Tensor) -> torch.Tensor:
        return torch.special.entr(p).sum(-1) / BITS

    p = torch.softmax(logits, 1)
    answers, k = logits.argmax(1), logits.shape[1]
    given_answer = given_confidence = torch.tensor(0.0)
    for a in range(k):
        those = p[answers == a]
        share = len(those) / len(p)
        given_answer = given_answer + share * entropy(those.mean(0))
        others = those.sum(0).index_fill(0, torch.tensor(a), 0.0)
        q = those[:, a]
        binary = entropy(torch.stack([q, 1 - q], 1)).mean()
        given_confidence = given_confidence + share * (binary + (1 - q).mean() * entropy(others / others.sum()))
    everything = entropy(p).mean()
    found = {
        "total": given_answer - everything,
        "confidence": given_answer - given_confidence,
        "classes": given_confidence - everything,
        "known": entropy(p.mean(0)) - everything,
    }
    return {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_a_network_that_knows_the_true_probabilities(temperature):
    """Within three standard errors, and its own temperature is taken back."""
    truth, labels = draw(1, 40_000, 4)
    assert values(truth / temperature, labels) == pytest.approx(of_truth(truth), abs=0.01)
    assert min(of_truth(truth).values()) > 0.05


def of_answer(seed: int, template: torch.Tensor, n: int = 40_000):
    """Answers drawn alike, a row of logits for each, and labels drawn from its softmax."""
    generator = torch.Generator().manual_seed(seed)
    logits = template[torch.randint(len(template), (n,), generator=generator)]
    return logits, torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)


def test_one_distribution_per_answer_says_no_more_than_the_answer():
    template = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = values(*of_answer(0, template + 3 * torch.eye(4)))
    assert found == pytest.approx({"total": 0, "confidence": 0, "classes": 0, "known": found["known"]}, abs=2e-3)
    assert found["known"] > 0.5


def test_confidence_without_classes():
    """How sure it is differs from image to image, how the rest is shared depends on the answer alone."""
    generator = torch.Generator().manual_seed(3)
    share = torch.rand(4, 4, generator=generator, dtype=torch.float64).fill_diagonal_(0.0)
    answers = torch.randint(4, (40_000,), generator=generator)
    q = 0.5 + 0.5 * torch.rand(40_000, 1, generator=generator, dtype=torch.float64)
    own = torch.nn.functional.one_hot(answers, 4).double()
    p = q * own + (1 - q) * (share / share.sum(1, keepdim=True))[answers]
    found = values(p.log().clamp(min=-50), torch.multinomial(p, 1, generator=generator).squeeze(1))
    assert found["classes"] == pytest.approx(0, abs=3e-3)
    assert found["confidence"] == pytest.approx(of_truth(p.log())["confidence"], abs=0.01)
    assert found["confidence"] > 0.05


def with_rival(n: int = 40_000):
    """Answers, a second class for each image, and labels: the answer in 7 of 10 cases, else the second class."""
    generator = torch.Generator().manual_seed(4)
    answers = torch.randint(8, (n,), generator=generator)
    rivals = (answers + torch.randint(1, 8, (n,), generator=generator)) % 8
    labels = torch.where(torch.rand(n, generator=generator) < 0.7, answers, rivals)
    return answers, rivals, labels


def test_classes_without_confidence():
    """It tells which of the seven others it is where it is wrong: 0.3 log2(7) bits, and no more."""
    answers, rivals, labels = with_rival()
    p = torch.full((len(labels), 8), 1e-6, dtype=torch.float64)
    p = p.scatter(1, answers.unsqueeze(1), 0.7).scatter(1, rivals.unsqueeze(1), 0.3)
    found = values(p.log(), labels)
    assert found["classes"] == pytest.approx(0.3 * math.log2(7), abs=0.02)
    assert found["confidence"] == pytest.approx(0, abs=2e-3)


def test_a_second_class_that_is_wrong_misleads():
    """The same answers as sure, but with a second class that the label never is."""
    answers, rivals, labels = with_rival()
    elsewhere = answers + 1 + (rivals - answers) % 8 % 7
    p = torch.full((len(labels), 8), 0.01, dtype=torch.float64)
    p = p.scatter(1, elsewhere.unsqueeze(1) % 8, 0.24).scatter(1, answers.unsqueeze(1), 0.7)
    assert values(p.log(), labels)["classes"] < -0.1


def test_noise_costs_what_one_temperature_cannot_take_back():
    """The answers that are best given the label's true probabilities, which noise on the other logits hides."""
    clean, labels = of_answer(5, 4 * torch.eye(4, dtype=torch.float64))
    noise = 3 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    found = values(clean + noise.scatter(1, clean.argmax(1, keepdim=True), 0.0).clamp(max=3.9), labels)
    assert found["total"] < 0
    assert found["classes"] < 0
    assert found["total"] == pytest.approx(found["confidence"] + found["classes"])


@given(seed=seeds, k=st.integers(2, 6), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
@settings(deadline=None, max_examples=10)
def test_scales_shifts_and_other_numbers_for_classes_change_nothing(seed, k, scale, shift):
    logits, labels = draw(seed, 60, k)
    before = pytest.approx(values(logits, labels), rel=1e-5, abs=1e-6)
    shifts = shift * torch.linspace(-1, 1, 60, dtype=torch.float64).unsqueeze(1)
    assert values(scale * (logits + shifts), labels) == before
    columns = torch.randperm(k, generator=torch.Generator().manual_seed(seed))
    assert values(logits[:, columns], columns.argsort()[labels]) == before


def test_two_classes_leave_nothing_to_confuse():
    assert values(*draw(0, 200, 2))["classes"] == pytest.approx(0, abs=1e-12)


@given(wrong=st.lists(st.booleans(), min_size=5, max_size=60), folds=st.integers(2, 5))
@settings(deadline=None, max_examples=40)
def test_folds_share_right_and_wrong_answers_equally(wrong, folds):
    found = _folds(torch.tensor(wrong), folds)
    assert torch.equal(found, _folds(torch.tensor(wrong), folds))
    for part in (torch.tensor(wrong), ~torch.tensor(wrong), torch.ones(len(wrong), dtype=torch.bool)):
        sizes = torch.bincount(found[part], minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_too_few_wrong_answers_to_fit_to():
    labels = torch.arange(4).repeat(10)
    logits = 5 * torch.eye(4)[labels]
    assert all(math.isnan(value) for value in values(logits, labels).values())
    logits[0] = logits[1]
    assert all(math.isnan(value) for value in values(logits, labels).values())
    logits[4] = logits[1]
    assert all(math.isfinite(value) for value in values(logits, labels).values())
    with pytest.raises(ValueError, match="folds = 1"):
        bits_beyond_top1(logits, labels, folds=1)
