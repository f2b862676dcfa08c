"""Train many small networks side by side whose smoothing is known, and keep their logits of held-out images.

All networks of a group see the same batches and are trained as one: every layer holds a matrix per network.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.config import DataConfig
from distill.data.sets.load import load

SMOOTHINGS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.75)


class Treatment(NamedTuple):
    """Say how one network is trained."""

    smoothing: float
    seed: int
    decay: float = 0.0
    dropout: float = 0.0
    mixup: float = 0.0


@dataclass(frozen=True)
class Group:
    """Hold the networks that are trained together: their data, architecture, length and treatments."""

    name: str
    data: str
    """Name of a data set here, or "clusters K IMAGES OVERLAP"."""
    widths: tuple[int, ...]
    """Widths of hidden layers; of a CNN the channels of two convolutions."""
    epochs: int
    treatments: tuple[Treatment, ...]
    cnn: bool = False
    images: int = 3000
    undertrained: bool = False
    aside: bool = False
    """Whether the group only tests the estimate."""


def plain(seeds: int, *smoothings: float, **how: float) -> tuple[Treatment, ...]:
    """List one treatment per strength of smoothing and seed."""
    return tuple(
        Treatment(smoothing, seed, **how) for smoothing in smoothings or SMOOTHINGS for seed in range(seeds)
    )


_MIXED = (
    *plain(2, 0.0, mixup=0.2),
    *plain(2, 0.0, mixup=1.0),
    *plain(2, 0.1, mixup=0.2),
    *plain(2, 0.1, mixup=1.0),
)
_REGULAR = (*plain(1, 0.0, 0.1, 0.3, decay=3e-4), *plain(1, 0.0, 0.1, 0.3, dropout=0.3))
_FEW = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6)

GROUPS = (
    Group("digits, MLP 128, 100 epochs", "digits", (128,), 100, (*plain(3), *_MIXED, *_REGULAR)),
    Group("digits, MLP 64-64, 40 epochs", "digits", (64, 64), 40, (*plain(2), *_REGULAR)),
    Group("digits, MLP 64, 2 epochs", "digits", (64,), 2, plain(2, *_FEW), undertrained=True),
    Group("MNIST, MLP 96, 20 epochs", "mnist", (96,), 20, (*plain(2), *_MIXED, *_REGULAR)),
    Group("MNIST, MLP 64, 1 epoch", "mnist", (64,), 1, plain(1, *_FEW), undertrained=True),
    Group("clusters, K = 3", "clusters 3 2000 0.3", (64,), 60, plain(2)),
    Group("clusters, K = 20", "clusters 20 3000 0.3", (128,), 60, (*plain(2), *_MIXED[::2])),
    Group("clusters, K = 50", "clusters 50 5000 0.25", (128,), 40, plain(1)),
    Group("Fashion-MNIST, MLP 128, 30 epochs", "fashion-mnist", (128,), 30, (*plain(2), *_MIXED[::2]), aside=True),
    Group("clusters, K = 2", "clusters 2 2000 0.4", (64,), 60, plain(2), aside=True),
    Group("clusters, K = 100", "clusters 100 6000 0.25", (128,), 40, plain(1), aside=True),
    Group(
        "clusters, K = 1000",
        "clusters 1000 10000 0.2",
        (64,),
        30,
        plain(1, 0.0, 0.1, 0.3),
        images=10000,
        aside=True,
    ),
    Group(
        "digits, CNN, 40 epochs", "digits", (16, 32), 40, (*plain(1), *_MIXED[::2], *_REGULAR), cnn=True, aside=True
    ),
    Group("MNIST, MLP 64-64, 30 epochs", "mnist", (64, 64), 30, (*plain(1), *_MIXED[::2]), aside=True),
    Group("digits, MLP 32, 3 epochs", "digits", (32,), 3, plain(1, *_FEW), undertrained=True, aside=True),
    Group(
        "CIFAR-10, CNN, 15 epochs", "cifar10-jpeg", (16, 32), 15, plain(1, 0.0, 0.1, 0.3, 0.6), cnn=True, aside=True
    ),
    Group("MNIST, CNN, 10 epochs", "mnist", (8, 16), 10, plain(1, 0.0, 0.02, 0.1, 0.2, 0.45), cnn=True, aside=True),
)


class Known(NamedTuple):
    """Hold one trained network: how it was trained, and its logits of held-out images."""

    group: Group
    treatment: Treatment
    logits: Tensor
    labels: Tensor


def networks(folder: Path, data_root: Path, cifar: Path) -> Iterator[Known]:
    """Train every group that is not yet in the folder, and yield all networks."""
    folder.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        path = folder / f"{group.name}.npz".replace(" ", "_").replace(",", "")
        if not path.exists():
            logits, labels = _trained(group, data_root, cifar)
            np.savez(path, logits=logits.half().numpy(), labels=labels.numpy())
        with np.load(path) as stored:
            logits, labels = torch.from_numpy(stored["logits"]).float(), torch.from_numpy(stored["labels"])
        for treatment, of_one in zip(group.treatments, logits, strict=True):
            yield Known(group, treatment, of_one, labels)


def _images(group: Group, data_root: Path, cifar: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return normalised images and labels, of training and of held-out images."""
    if group.data.startswith("clusters"):
        _, classes, count, overlap = group.data.split()
        return _clusters(int(classes), int(count), float(overlap))
    name = f"imagefolder:{cifar}" if group.data == "cifar10-jpeg" else group.data
    kwargs = {"size": 32} if group.data == "cifar10-jpeg" else {}
    dataset = load(DataConfig(name=name, kwargs=kwargs), data_root, progress=False)
    train, test = dataset.train, dataset.test
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (dataset.mean, dataset.std))
    parts = []
    for split, most in ((train, group.images), (test, 2000)):
        chosen = split.rows(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:most])
        images = torch.as_tensor(chosen.images).float() / 255
        parts += [(images - mean) / std, chosen.labels]
    return tuple(parts)


def _clusters(classes: int, count: int, overlap: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw points around one centre per class; neighbouring centres are alike."""
    generator = torch.Generator().manual_seed(classes)
    centres = torch.randn(classes, 32, generator=generator)
    centres[1::2] += 0.5 * (centres[::2][: len(centres[1::2])] - centres[1::2])
    labels = torch.arange(count + 2000) % classes
    points = centres[labels] + overlap * 1.5 * torch.randn(count + 2000, 32, generator=generator)
    return points[:count], labels[:count], points[count:], labels[count:]


class _Side(nn.Module):
    """Hold the same network several times, side by side."""

    def __init__(self, group: Group, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.count, self.cnn = len(group.treatments), group.cnn
        self.convolutions, inputs = nn.ModuleList(), int(np.prod(shape))
        if group.cnn:
            channels, side = shape[0], shape[1]
            for width in group.widths:
                self.convolutions.append(
                    nn.Conv2d(channels * self.count, width * self.count, 3, padding=1, groups=self.count)
                )
                channels, side = width, side // 2
            inputs = channels * side * side
        sizes = [inputs, *(() if group.cnn else group.widths), classes]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            drawn = [
                torch.randn(fan_in, fan_out, generator=torch.Generator().manual_seed(each.seed))
                for each in group.treatments
            ]
            self.weights.append(nn.Parameter(torch.stack(drawn) * (2 / fan_in) ** 0.5 * 0.7))
            self.biases.append(nn.Parameter(torch.zeros(self.count, 1, fan_out)))
        self.dropout = torch.tensor([each.dropout for each in group.treatments]).view(-1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [network, image, class] of images [image, …] that all see, or [network, image, …]."""
        if images.dim() in (2, 4):
            images = images.unsqueeze(0).expand(self.count, *images.shape)
        if self.cnn:
            batch = images.shape[1]
            hidden = images.transpose(0, 1).flatten(1, 2)
            for convolution in self.convolutions:
                hidden = F.max_pool2d(F.relu(convolution(hidden)), 2)
            hidden = hidden.view(batch, self.count, -1).transpose(0, 1)
        else:
            hidden = images.flatten(2)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer or self.cnn:
                hidden = F.relu(hidden) if layer else hidden
                if self.training and self.dropout.any():
                    hidden = hidden * (torch.rand_like(hidden) >= self.dropout) / (1 - self.dropout)
            hidden = torch.baddbmm(bias, hidden, weight)
        return hidden


def _trained(group: Group, data_root: Path, cifar: Path) -> tuple[Tensor, Tensor]:
    """Train the networks of a group with Adam and a cosine schedule; return logits of held-out images."""
    torch.manual_seed(0)
    images, labels, held_out, answers = _images(group, data_root, cifar)
    classes, batch = int(labels.max()) + 1, 64
    network = _Side(group, tuple(images.shape[1:]), classes)
    smoothing, decay, mixup = (
        torch.tensor([getattr(each, name) for each in group.treatments]).view(-1, 1, 1)
        for name in ("smoothing", "decay", "mixup")
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    steps = group.epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(group.epochs):
        for rows in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            seen, targets = images[rows], F.one_hot(labels[rows], classes).float().unsqueeze(0)
            if mixup.any():
                share = (
                    torch.distributions.Beta(mixup.clamp(min=1e-3), mixup.clamp(min=1e-3))
                    .sample((batch,))[..., 0, 0]
                    .t()
                    .unsqueeze(2)
                )
                share = torch.where(mixup > 0, share, torch.ones(()))
                other = torch.randperm(batch)
                mixing = share.view(*share.shape[:2], *[1] * (seen.dim() - 1))
                seen = mixing * seen + (1 - mixing) * seen[other]
                targets = share * targets + (1 - share) * targets[:, other]
            targets = targets * (1 - smoothing) + smoothing / classes
            loss = -(targets * F.log_softmax(network(seen), dim=2)).sum(dim=2).mean(dim=1).sum()
            penalty = sum(decay * each.square().sum(dim=(1, 2), keepdim=True) for each in network.weights)
            optimizer.zero_grad()
            (loss + torch.as_tensor(penalty).sum()).backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part) for part in held_out.split(500)], dim=1), answers
