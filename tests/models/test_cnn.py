"""The convolutional network."""

from __future__ import annotations

import pytest
import torch

from distill.models.cnn import CNN


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_layout_of_the_images_does_not_matter_to_the_cnn(channels):
    model = CNN(10, (channels, 12, 12), widths=[4, 4], hidden=8).eval()
    x = torch.randn(3, channels, 12, 12)
    expected = model(x)
    torch.testing.assert_close(model(x.contiguous(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(model(x.transpose(2, 3).contiguous().transpose(2, 3)), expected)
    assert model.stages[0](x).shape == (3, 4, 12, 12)
    model.train()(x).sum().backward()
    assert all(parameter.grad.is_contiguous() for parameter in model.parameters())
