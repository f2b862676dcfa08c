"""One place makes of a view what a network takes."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from distill.config import AugmentConfig
from distill.data.network_input import NetworkInput
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.views import Views
from distill.errors import UserError

IMAGES = torch.randint(256, (5, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
DATA = {"shape": [1, 6, 6], "mean": [0.4], "std": [0.2]}
WIDE = NetworkInput((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), (3, 9, 9), "bicubic")


def test_a_network_trained_here_takes_views_as_they_are() -> None:
    takes = NetworkInput.of(DATA)
    assert takes == ((0.4,), (0.2,), (1, 6, 6), "none", 1.0)
    assert type(takes.normaliser()) is Normaliser
    assert torch.equal(takes.normaliser()(IMAGES), Normaliser((0.4,), (0.2,))(IMAGES))


def test_a_record_is_read_as_it_was_written() -> None:
    data = DATA | {"mean": [*WIDE.mean], "std": [*WIDE.std], "takes": WIDE.record()}
    assert NetworkInput.of(data) == WIDE


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("side", [4, 6, 9])
def test_images_are_resized_as_torchvision_resizes_floats(interpolation: str, side: int) -> None:
    takes = WIDE._replace(shape=(3, side, side), interpolation=interpolation)
    mode = InterpolationMode(interpolation if interpolation != "nearest" else "nearest-exact")
    theirs = functional.resize(IMAGES.float() / 255, [side, side], mode, antialias=True).clamp(0, 1)
    theirs = functional.normalize(theirs.expand(-1, 3, -1, -1), list(WIDE.mean), list(WIDE.std))
    torch.testing.assert_close(takes.normaliser()(IMAGES), theirs, rtol=1e-5, atol=1e-5)


def test_an_interpolation_of_files_only_is_refused_for_views() -> None:
    with pytest.raises(UserError, match="bilinear, bicubic, nearest"):
        WIDE._replace(interpolation="lanczos").normaliser()(IMAGES)


@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(pad=1), AugmentConfig(mixup=0.5)])
def test_views_are_resized_after_they_are_made(augment: AugmentConfig) -> None:
    views = Views(Split(IMAGES, torch.arange(5) % 2), WIDE.normaliser(), augment, 3, 2)
    index = torch.arange(5)
    expected = WIDE.normaliser()(views.pixels(index, 1))
    for _ in range(2):
        assert torch.equal(views.images_of(index, 1), expected)
        views.settle()
    assert views.sample_bytes == 4 * 3 * 9 * 9
