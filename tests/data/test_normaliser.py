from __future__ import annotations

import torch

from distill.data.normaliser import Normaliser
from tests.data.views.made import MEAN, STD, make_split


def test_normalised_to_mean_and_std():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    found = Normaliser(MEAN, STD)(images).view(2, 3)
    expected = (torch.tensor([[0.0], [1.0]]) - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found, expected)


def test_floats_are_normalised_as_bytes_are():
    images = make_split().images
    assert torch.equal(Normaliser(MEAN, STD)(images.float()), Normaliser(MEAN, STD)(images))
