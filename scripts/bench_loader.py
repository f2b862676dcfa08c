"""Compare the images per second of `distill.data.loader` with DataLoader and torchvision transforms on PIL images.

Both do the classic CIFAR augmentation on random 32x32x3 images: zero-pad by 4, crop, flip, normalise, batches
of 128. The baseline is a DataLoader with 2 (persistent) workers and v1 transforms: RandomCrop(32, padding=4),
RandomHorizontalFlip, ToTensor, Normalize. A third contestant indexes a uint8 tensor per batch (`crops.render`).
All three are timed in turn within one run, an epoch each per round, and the result is the median over rounds.

    python scripts/bench_loader.py [--full] [--images 10000] [--rounds 5]
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rounds import announce, make_parser, parse, take_turns
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from distill.config import AugmentConfig
from distill.data.loader import Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.crops import permutation, render, view_parameters
from distill.data.views.views import Views
from distill.system.memory import keep_freed_memory

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PAD, SIDE = 4, 32


class PilImages(TorchDataset[tuple[Any, int]]):
    """A map-style data set of PIL images, like torchvision.datasets.CIFAR10."""

    def __init__(self, split: Split):
        from torchvision import transforms

        self.pixels = split.pixels(torch.arange(len(split))).permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=PAD),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        """Return one transformed image and its label."""
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[position])), self.labels[position]


def fancy_indexing(split: Split, augment: AugmentConfig, batch_size: int, epoch: int) -> int:
    """Make an epoch by advanced indexing of each batch, and return the number of images."""
    normalise = Normaliser(MEAN, STD)
    count = 0
    for index in permutation(0, epoch, len(split)).split(batch_size):
        pixels = render(split.pixels(index), view_parameters(0, index, epoch, augment), augment.pad)
        count += len(normalise(pixels))
    return count


def rate(epoch: Callable[[int], int], number: int) -> float:
    """Return the images per second of one epoch."""
    start = time.perf_counter()
    return epoch(number) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print the table."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="images per epoch")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each loader")
    parser.add_argument("--batch-size", type=int, default=128)
    arguments = parse(parser, images=50_000)
    announce(10 + 0.0005 * arguments.images * (1 + arguments.rounds))
    keep_freed_memory()  # as in every stage; the setting holds for all three contestants
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (arguments.images, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.randint(0, 10, (arguments.images,), generator=generator))
    augment, size = AugmentConfig(pad=PAD, flip=True), arguments.batch_size
    ours = Loader(Views(split, Normaliser(MEAN, STD), augment, seed=0), size, seed=0, drop_last=False)
    baseline = DataLoader(PilImages(split), size, shuffle=True, num_workers=2, persistent_workers=True)
    loaders: dict[str, Callable[[int], int]] = {
        "distill.data.loader": lambda epoch: sum(len(batch.images) for batch in ours.epoch(epoch)),
        "fancy indexing per batch": lambda epoch: fancy_indexing(split, augment, size, epoch),
        "DataLoader, 2 workers, PIL": lambda epoch: sum(len(images) for images, _ in baseline),
    }
    epochs = itertools.count()
    # The first round starts workers and touches memory for the first time.
    rates = take_turns(
        {name: lambda epoch=epoch: rate(epoch, next(epochs)) for name, epoch in loaders.items()}, arguments.rounds
    )
    base = statistics.median(rates["DataLoader, 2 workers, PIL"])
    print(f"{'loader':30} {'images/s':>12} {'ratio':>7}")
    for name, measured in rates.items():
        print(f"{name:30} {statistics.median(measured):12,.0f} {statistics.median(measured) / base:6.1f}x")


if __name__ == "__main__":
    main()
