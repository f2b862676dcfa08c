from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import AugmentConfig
from distill.data.normaliser import Normaliser
from distill.data.views.crops import render, view_parameters
from distill.data.views.mixing import mix, mix_parameters
from tests.data.views.made import AUGMENTS, MEAN, STD, VIEWS, make_split, make_views, reference


@given(
    n=st.integers(1, 60),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    pad=st.integers(0, 9),
    flip=st.booleans(),
    view=st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_any_shape_and_pad_equals_the_reference(n, height, width, pad, flip, view):
    split, augment = make_split(n, height, width), AugmentConfig(pad=pad, flip=flip)
    index = torch.arange(n).flip(0)
    images = make_views(split, augment).images_of(index, view)
    assert torch.equal(images, reference(split, index, view, augment))


@pytest.mark.parametrize("augment", AUGMENTS, ids=str)
def test_pixels_are_the_views_before_normalisation(memory, augment):
    split, index = make_split(), torch.tensor([4, 100, 4, 0])
    views = make_views(split, augment)
    pixels = views.pixels(index, 3)
    assert torch.equal(pixels, render(split.images[index], view_parameters(1, index, 3, augment), augment.pad))
    assert torch.equal(Normaliser(MEAN, STD)(pixels), views.images_of(index, 3))
    assert len(views.pixels(index[:0], 3)) == 0


@pytest.mark.parametrize("name", ["crop, both", "program, mixup", "float program, both"])
def test_a_mixed_view_is_mixed_of_two_views(name):
    augment, split, index = VIEWS[name], make_split(), torch.arange(103)
    apart = make_views(split, augment.replace(mixup=0.0, cutmix=0.0))
    found = mix_parameters(1, index, 6, augment, 103, 8, 9)
    expected = mix(apart.pixels(index, 6), apart.pixels(found.partner, 6), found)
    views = make_views(split, augment)
    assert torch.equal(views.pixels(index, 6), expected)
    assert not torch.equal(views.pixels(index, 7), expected)
    assert not torch.equal(make_views(split, augment, seed=4).pixels(index, 6), expected)
