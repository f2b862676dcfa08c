from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.cache.class_order import better_order

pytestmark = pytest.mark.fault("classes or rows in another order")


def names(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


@pytest.mark.parametrize("count", [12, 100])
def test_a_natural_order_for_folders_in_text_order_is_found(count: int) -> None:
    folders = sorted(names(count))
    natural = torch.tensor([int(name) for name in folders])
    labels = torch.arange(30 * count) % count
    order = better_order(natural[labels], labels, tuple(folders))
    assert order is not None
    assert order.accuracy == 1
    assert order.moved.startswith("its ")


def test_two_swapped_classes_are_found() -> None:
    labels = torch.arange(360) % 12
    swap = torch.arange(12)
    swap[[4, 7]] = torch.tensor([7, 4])
    order = better_order(swap[labels], labels, names(12))
    assert order is not None
    assert order.moved == "its 4 is 7, its 7 is 4"
    # About 30 of the 180 images that judge lie in the two classes; the exact test is that of n heads in n throws.
    heads = -math.log2(order.p)
    assert heads == pytest.approx(round(heads))
    assert 20 <= heads <= 40


@given(seed=st.integers(0, 10_000), count=st.sampled_from([2, 10, 300]), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_teacher_with_errors_at_random_is_let_through(seed: int, count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels, noise = torch.randint(count, (2, 1000), generator=generator)
    answers = labels.where(torch.rand(1000, generator=generator) < share, noise)
    assert better_order(answers, labels, names(count)) is None


def test_few_images_say_nothing() -> None:
    labels = torch.arange(30) % 2
    assert better_order(1 - labels, labels, names(2)) is None
    labels = torch.arange(60) % 2
    assert better_order(1 - labels, labels, names(2)) is not None
