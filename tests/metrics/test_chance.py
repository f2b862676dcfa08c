"""When a network counts as at chance: against the definition in plain loops, and on few or unbalanced images."""

from __future__ import annotations

import math

import pytest
import torch

from distill.metrics.chance import at_chance

pytestmark = pytest.mark.fault("networks at chance and near it")


def sure(answers: torch.Tensor, classes: int, spread: float = 8.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(answers, classes).double() * spread


def blocks(*counts: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def slow_at_chance(logits: list[list[float]], labels: list[int]) -> bool:
    classes, n = sorted(set(labels)), len(labels)
    recalls, variance, entropy, nll = [], 0.0, 0.0, 0.0
    chance = 1 / len(classes)
    for c in classes:
        own = [z for z, label in zip(logits, labels, strict=True) if label == c]
        recalls.append(sum(z.index(max(z)) == c for z in own) / len(own))
        variance += chance * (1 - chance) / len(own) / len(classes) ** 2
        entropy -= len(own) / n * math.log(len(own) / n)
        nll += sum(math.log(sum(math.exp(x) for x in z)) - z[c] for z in own) / n
    bound = min(chance + 3 * math.sqrt(variance), (1 + chance) / 2)
    return sum(recalls) / len(recalls) <= bound and nll >= entropy


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor([0.6, 0.1, 0.0, 0.3]), 60, replacement=True, generator=generator)
    noise = torch.randn(60, 4, generator=generator, dtype=torch.float64) * (0.1 + seed % 5)
    logits = noise + sure(labels, 4, spread=seed % 4 * 0.5)
    assert (at_chance(logits, labels) is not None) == slow_at_chance(logits.tolist(), labels.tolist())


@pytest.mark.parametrize("counts", [(30, 3), (1, 1), (3, 2), (1000, 1), (2, 2, 2, 2), (33,)], ids=str)
def test_a_network_that_is_always_right_is_not_at_chance(counts):
    labels = blocks(*counts)
    assert at_chance(sure(labels, len(counts) + 1), labels) is None


@pytest.mark.parametrize("counts", [(30, 3), (50, 50), (100, 10, 1)], ids=str)
def test_a_network_that_says_the_same_of_all_images_is_at_chance(counts):
    labels = blocks(*counts)
    shares = torch.tensor(counts).double().log().expand(len(labels), -1)
    for logits in (shares, shares.float(), torch.zeros_like(shares), sure(torch.zeros_like(labels), len(counts))):
        assert "at chance" in at_chance(logits, labels)


def test_probabilities_that_say_more_than_the_shares_are_not_at_chance():
    """All answers are the frequent class, but the rare one is more probable where it is right."""
    labels = blocks(90, 10)
    logits = torch.tensor([[4.0, 0.0], [0.5, 0.0]], dtype=torch.float64)[labels]
    assert (logits.argmax(1) == 0).all()
    assert at_chance(logits, labels) is None


def test_answers_that_are_right_of_a_network_too_sure_of_the_wrong_ones_are_not_at_chance():
    labels = blocks(50, 50)
    answers = labels.clone()
    answers[::4] = 1 - answers[::4]
    logits = sure(answers, 2, spread=100.0)
    assert torch.nn.functional.cross_entropy(logits, labels).item() > math.log(2)
    assert at_chance(logits, labels) is None


def test_one_class_has_no_chance():
    labels = torch.full((5,), 2)
    assert at_chance(sure(torch.zeros(5, dtype=torch.long), 3), labels) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_have_diverged(value):
    logits = sure(blocks(5, 5), 2)
    logits[3, 1] = value
    assert at_chance(logits, blocks(5, 5)) == "logits are not finite"


def test_the_reason_names_both_numbers_and_their_bounds():
    assert at_chance(torch.zeros(100, 2), blocks(50, 50)) == (
        "accuracy at chance (balanced accuracy 0.500, needs more than 0.650; NLL 0.693, needs less than 0.693)"
    )


def test_no_images_tell_nothing():
    assert at_chance(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)) is None
