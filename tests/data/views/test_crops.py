import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.config import AugmentConfig
from distill.data.views.crops import permutation, render, view_parameters

SHIFT_AND_FLIP = AugmentConfig(pad=4, flip=True)


@given(st.permutations(range(60)), st.integers(1, 60), st.integers(0, 2**62), st.integers(0, 1000))
def test_parameters_ignore_batch_and_order(order, batch, seed, view):
    index = torch.tensor(order)
    whole = view_parameters(seed, torch.arange(60), view, SHIFT_AND_FLIP)
    parts = [view_parameters(seed, part, view, SHIFT_AND_FLIP) for part in index.split(batch)]
    for field, name in enumerate(whole._fields):
        assert torch.equal(torch.cat([part[field] for part in parts]), whole[field][index]), name


def test_parameters_differ_by_seed_and_view():
    index = torch.arange(500)
    draws = [view_parameters(seed, index, view, SHIFT_AND_FLIP) for seed in (0, 1) for view in (0, 1)]
    assert len({tuple((draw.dy * 100 + draw.dx).tolist()) for draw in draws}) == 4


def test_shifts_are_uniform_and_independent_and_flips_are_fair():
    n, cells = 81_000, 9 * 9 * 2
    parameters = view_parameters(7, torch.arange(n), 3, SHIFT_AND_FLIP)
    cell = (parameters.dy * 9 + parameters.dx) * 2 + parameters.flip
    observed = torch.bincount(cell, minlength=cells).double()
    assert len(observed) == cells
    statistic = float(((observed - n / cells) ** 2 / (n / cells)).sum())
    # Chi-square with 161 degrees of freedom: mean 161, deviation 18.
    assert 161 - 4 * 18 < statistic < 161 + 4 * 18


def test_no_augmentation_is_the_image_itself():
    images = torch.randint(0, 256, (5, 3, 6, 7), dtype=torch.uint8)
    parameters = view_parameters(0, torch.arange(5), 9, AugmentConfig())
    assert torch.equal(render(images, parameters, 0), images)


def test_render_is_pad_crop_mirror():
    images = torch.randint(0, 256, (40, 2, 5, 6), dtype=torch.uint8)
    parameters = view_parameters(0, torch.arange(40), 0, AugmentConfig(pad=3, flip=True))
    for image, view, dy, dx, flip in zip(images, render(images, parameters, 3), *parameters, strict=True):
        padded = torch.zeros(2, 11, 12, dtype=torch.uint8)
        padded[:, 3:8, 3:9] = image
        crop = padded[:, dy : dy + 5, dx : dx + 6]
        assert torch.equal(view, crop.flip(-1) if flip else crop)


@given(st.integers(0, 2**62), st.integers(0, 10**6), st.integers(0, 300))
def test_permutation_is_one(seed, epoch, n):
    assert torch.equal(permutation(seed, epoch, n).sort().values, torch.arange(n))


def test_permutation_differs_by_epoch_and_seed():
    orders = {tuple(permutation(seed, epoch, 100).tolist()) for seed in (0, 1, 2) for epoch in (0, 1, 2)}
    assert len(orders) == 9
    assert torch.equal(permutation(1, 2, 100), permutation(1, 2, 100))


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    index = torch.arange(10_000)
    images = torch.randint(0, 256, (10_000, 3, 8, 8), dtype=torch.uint8)
    here = view_parameters(5, index, 2, SHIFT_AND_FLIP)
    there = view_parameters(5, index.cuda(), 2, SHIFT_AND_FLIP)
    assert all(torch.equal(one, other.cpu()) for one, other in zip(here, there, strict=True))
    assert torch.equal(render(images, here, 4), render(images.cuda(), there, 4).cpu())
    assert torch.equal(permutation(5, 2, 10_000), permutation(5, 2, 10_000, "cuda").cpu())
