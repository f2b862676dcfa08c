"""Epochs in which each class comes equally often."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from distill.config import AugmentConfig
from distill.data.balance import BalancedDraw
from distill.data.batch_share import BatchShare
from distill.data.loader import Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.views import Views

LABELS = torch.tensor([0] * 60 + [2] * 30 + [5] * 8 + [7] * 3)[
    torch.randperm(101, generator=torch.Generator().manual_seed(1))
]


def make_views(labels: torch.Tensor = LABELS, augment: AugmentConfig | None = None) -> Views:
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Views(Split(images, labels), Normaliser((0.5,), (0.5,)), augment or AugmentConfig(), 1, 8)


def indices(loader: Loader, epoch: int, start: int = 0) -> list[int]:
    return torch.cat([batch.index for batch in loader.epoch(epoch, start)]).tolist()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_classes_come_equally_often_and_the_epoch_is_as_long_as_it_was(labels, seed, epoch):
    draw = BalancedDraw.of(torch.tensor(labels))
    order = draw.order(seed, epoch)
    assert len(order) == len(labels)
    often = Counter(labels[index] for index in order.tolist())
    low = len(labels) // len(set(labels))
    assert set(often.values()) <= {low, low + 1}
    assert set(often) == set(labels) or low == 0
    assert torch.equal(order, draw.order(seed, epoch))


def test_within_a_class_each_sample_is_as_likely_and_each_class_gets_the_odd_one():
    draw = BalancedDraw.of(LABELS)
    orders = torch.stack([draw.order(3, epoch) for epoch in range(400)])
    drawn = orders.flatten().bincount(minlength=101)
    for cls in LABELS.unique():
        assert chisquare(drawn[cls == LABELS].numpy()).pvalue > 1e-3
    odd = torch.stack([LABELS[order].bincount(minlength=8)[[0, 2, 5, 7]] for order in orders]) - 25
    assert odd.sum(0).min() > 60, "101 = 4 x 25 + 1: each of four classes in about 100 of 400 epochs"
    # Neither the place in the epoch nor the last draw of a class says which class or sample comes.
    assert chisquare(LABELS[orders[:, 0]].bincount()[[0, 2, 5, 7]].numpy()).pvalue > 1e-3


def test_an_epoch_is_the_same_from_any_step_for_any_rank_and_number_of_workers():
    loader = Loader(make_views(), 10, seed=4, balanced=True)
    whole = indices(loader, 2)
    assert len(whole) == 100
    for start in range(10):
        assert indices(loader, 2, start) == whole[10 * start :]
    assert whole != indices(loader, 3)
    assert whole != indices(Loader(make_views(), 10, seed=5, balanced=True), 2)
    program = AugmentConfig(program="torchvision.transforms.v2:RandomResizedCrop", kwargs={"size": [4, 4]})
    for workers in (0, 2):
        assert indices(Loader(make_views(augment=program), 10, seed=4, workers=workers, balanced=True), 2) == whole
    ranks = [Loader(make_views(), 10, 4, share=BatchShare(1, rank, 2), balanced=True) for rank in (0, 1)]
    halves = [torch.tensor(indices(rank, 2)).view(-1, 5) for rank in ranks]
    assert torch.cat(halves, 1).flatten().tolist() == whole


def test_a_subset_has_its_own_classes_and_the_rows_keep_their_index():
    subset = ((LABELS == 2) | (LABELS == 7)).nonzero().squeeze(1)
    loader = Loader(make_views(), 11, seed=4, subset=subset, balanced=True)
    batches = list(loader.epoch(0, join=lambda index, view, size: (100 * index).split(size)))
    order = torch.cat([batch.index for batch in batches])
    assert set(order.tolist()) <= set(subset.tolist())
    assert sorted(Counter(LABELS[order].tolist()).values()) == [16, 17]
    for batch in batches:
        assert torch.equal(batch.labels, LABELS[batch.index])
        assert torch.equal(batch.teacher, 100 * batch.index)
        pixels = (batch.images[:, 0, 0, 0] * 0.5 + 0.5) * 255
        assert torch.equal(pixels.round().long(), batch.index)


def test_mixed_views_tokens_and_a_fixed_order_are_refused():
    tokens = Views(Split(torch.zeros(4, 1, 2, 3, dtype=torch.uint8), torch.zeros(4, 3).long()),
                   Normaliser((0.0,), (1.0,)), AugmentConfig(), 1)  # fmt: skip
    for views, seed in ((make_views(), None), (make_views(augment=AugmentConfig(mixup=0.2)), 1), (tokens, 1)):
        with pytest.raises(ValueError, match="balanced: expected a seed"):
            Loader(views, 2, seed, balanced=True)


@pytest.mark.gpu
def test_a_gpu_draws_what_a_cpu_draws():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for epoch in range(3):
        assert torch.equal(
            BalancedDraw.of(LABELS).order(1, epoch), BalancedDraw.of(LABELS.cuda()).order(1, epoch).cpu()
        )
