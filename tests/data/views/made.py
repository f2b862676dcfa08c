"""Splits, configs of views and views that several tests share."""

from __future__ import annotations

import torch

from distill.config import AugmentConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.crops import render, view_parameters
from distill.data.views.views import Views

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)
AUGMENTS = [AugmentConfig(), AugmentConfig(pad=2), AugmentConfig(flip=True), AugmentConfig(pad=4, flip=True)]

CROP = {"program": "torchvision.transforms.v2:RandomResizedCrop", "kwargs": {"size": [8, 9]}}
TIMM = {
    "program": "timm.data:create_transform",
    "kwargs": {"input_size": [3, 8, 9], "is_training": True, "mean": [0, 0, 0], "std": [1, 1, 1], "re_prob": 0.5},
}
FLIP = {"pad": 2, "flip": True}
VIEWS = {
    "crop and flip": AugmentConfig(**FLIP),
    "mixup": AugmentConfig(mixup=1.0),
    "crop, cutmix": AugmentConfig(**FLIP, cutmix=1.0),
    "crop, both": AugmentConfig(**FLIP, mixup=0.4, cutmix=1.0),
    "program": AugmentConfig(**CROP),
    "program, mixup": AugmentConfig(**CROP, mixup=0.3),
    "float program, both": AugmentConfig(**TIMM, mixup=0.3, cutmix=0.5),
}
"""Configs of views, name → config."""


def make_split(n: int = 103, height: int = 8, width: int = 9) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 10, (n,), generator=generator))


def make_views(
    split: Split, augment: AugmentConfig, seed: int = 1, num_classes: int | None = 10, **kwargs
) -> Views:
    return Views(split, Normaliser(MEAN, STD, **kwargs), augment, seed, num_classes)


def reference(split: Split, index: torch.Tensor, view: int, augment: AugmentConfig, seed: int = 1) -> torch.Tensor:
    pixels = render(split.images[index], view_parameters(seed, index, view, augment), augment.pad)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    return (pixels.float() - (mean * 255).float()) * (1 / (std * 255)).float()
