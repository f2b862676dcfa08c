"""Images become squares as torchvision's and timm's transforms for evaluation make them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from distill.data.sets.fitting import INTERPOLATIONS, Fit, fitted

SHAPES = [(37, 91), (91, 37), (64, 64), (33, 32), (200, 31)]


def image(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.95, 224 / 232, 0.3])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_it_is_torchvisions_resize_and_centre_crop(shape, crop, interpolation):
    fit = Fit(28, crop, interpolation)
    theirs = Compose([Resize(fit.resized, InterpolationMode[interpolation.upper()]), CenterCrop(28)])
    assert np.array_equal(fitted(image(*shape), fit), theirs(image(*shape)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crop", [1.0, 0.875, 0.95, 0.9])
def test_it_is_timms_transform_for_evaluation(shape, crop):
    theirs = create_transform(28, interpolation="bicubic", crop_pct=crop, normalize=False)
    pixels = np.asarray(fitted(image(*shape), Fit(28, crop, "bicubic"))).transpose(2, 0, 1)
    assert np.array_equal(pixels, theirs(image(*shape)).numpy())


def test_224_of_232_pixels_is_232():
    assert Fit(224, 224 / 232).resized == 232
    assert Fit(224, 0.875).resized == 256


def test_without_a_size_an_image_stays_as_it_is():
    whole = image(5, 7)
    assert fitted(whole, Fit()) is whole
