"""Compare the images per second of a stream with timm's loader, torchvision's ImageFolder and the decoded copy.

All make batches of normalised crops (RandomResizedCrop to 224, a horizontal flip) of the same JPEGs of 500 × 375,
with the same number of worker processes, and take turns: an epoch each per round. The result is the median over
rounds. Our view program is that of timm, which crops as torchvision does. Decoders of these files come first.

    python scripts/bench_stream.py [--full] [--images 320] [--rounds 3] [--workers 2]
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rounds import announce, make_parser, parse, take_turns
from torch.utils.data import DataLoader
from tqdm import tqdm

from distill.config import AugmentConfig, DataConfig
from distill.data.loader import Loader
from distill.data.sets.load import load
from distill.data.views.views import Views

WIDTH, HEIGHT, SIZE, BATCH = 500, 375, 224, 32
CLASSES = 10
_DECODED, _TURNS = 100, 5


def write_images(folder: Path, count: int) -> None:
    """Write smooth random images with some grain, which compress like photographs, to class folders."""
    rng = np.random.default_rng(0)
    for number in tqdm(range(count), desc="writing", unit="file", leave=False):
        image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for side in (4, 16, 64):
            coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
            image += np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float32) / 3
        image += rng.normal(0, 7, image.shape)
        # Of each class, one file of 17 is a test image.
        split = "test" if number // CLASSES % 17 == 16 or number < CLASSES else "train"
        path = folder / split / f"class{number % CLASSES}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=85)


def ours(folder: Path, root: Path, kind: str, workers: int, stream: bool) -> Callable[[], float]:
    """Return a function that measures our loader with one kind of transforms."""
    kwargs = {"stream": True, "size": SIZE} if stream else {"size": SIZE}
    data = load(DataConfig(name=f"imagefolder:{folder}", kwargs=kwargs, held_out=0.0), root)
    given = {"input_size": SIZE, "is_training": True, "interpolation": kind, "color_jitter": None}
    program = AugmentConfig(program="timm.data:create_transform", kwargs={**given, "normalize": False})
    loader = Loader(Views.of_training(data, program, 0), BATCH, 0, workers=workers)
    epoch = iter(range(1 << 30))
    return lambda: _rate(each.images for each in loader.epoch(next(epoch)))


def image_folder(folder: Path, workers: int) -> Callable[[], float]:
    """Return a function that measures torchvision's ImageFolder in a DataLoader whose workers wait."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    parts = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    program = transforms.Compose([*parts, transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    given: Any = {"num_workers": workers, "persistent_workers": workers > 0, "shuffle": True, "drop_last": True}
    loader = DataLoader(ImageFolder(str(folder / "train"), program), BATCH, **given)
    return lambda: _rate(images for images, _ in loader)


def timms(folder: Path, workers: int) -> Callable[[], float]:
    """Return a function that measures timm's loader without its prefetcher, which is for GPUs."""
    from timm.data.dataset_factory import create_dataset
    from timm.data.loader import create_loader

    data: Any = create_dataset("", root=str(folder / "train"), is_training=True)
    given: Any = {"color_jitter": None, "interpolation": "bicubic", "num_workers": workers, "use_prefetcher": False}
    loader = create_loader(data, (3, SIZE, SIZE), BATCH, is_training=True, **given)
    return lambda: _rate(images for images, _ in loader)


def _rate(batches: Iterable[torch.Tensor]) -> float:
    # The first batch of an epoch counts: all begin with empty queues.
    started, images = time.perf_counter(), 0
    for batch in batches:
        images += len(batch)
        assert batch.dtype == torch.float32
    return images / (time.perf_counter() - started)


def compare_decoders(folder: Path) -> None:
    """Print how many images per second each decoder makes on one thread, and whether pixels are Pillow's."""
    from torchvision.io import ImageReadMode, decode_jpeg

    files = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:_DECODED]]

    def pillow(data: bytes, draft: int | None = None) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as file:
            if draft:
                file.draft("RGB", (draft, draft))
            return np.asarray(file.convert("RGB"))

    def torchvision(data: bytes) -> np.ndarray:
        read = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        image: Any = decode_jpeg(read, ImageReadMode.RGB)
        return image.permute(1, 2, 0).numpy()

    def seconds(decode: Callable[[bytes], np.ndarray]) -> float:
        started = time.perf_counter()
        for data in files:
            decode(data)
        return time.perf_counter() - started

    decoders = {"Pillow": pillow, "torchvision": torchvision, "Pillow, draft 128": partial(pillow, draft=128)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = take_turns({name: partial(seconds, each) for name, each in decoders.items()}, _TURNS, what="decoders")
    torch.set_num_threads(threads)
    print(f"decoder, mean file of {sum(map(len, files)) / len(files) / 1e3:.0f} kB   images/s   pixels")
    for name, each in decoders.items():
        same = all(np.array_equal(each(data), pillow(data)) for data in files)
        rate = len(files) / statistics.median(found[name])
        print(f"{name:28} {rate:15.0f}   {'those of Pillow' if same else 'others'}")


def main() -> None:
    """Write images, compare decoders, let the loaders take turns, and print rates and ratios."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    given = parse(parser, images=2000, rounds=7)
    announce(15 + given.images * (0.02 + 0.025 * (given.rounds + 1)))
    with tempfile.TemporaryDirectory() as made:
        folder, root = Path(made) / "images", Path(made) / "data"
        write_images(folder, given.images)
        compare_decoders(folder)
        contestants = {
            "stream, bicubic": ours(folder, root, "bicubic", given.workers, stream=True),
            "timm, bicubic": timms(folder, given.workers),
            "stream, bilinear": ours(folder, root, "bilinear", given.workers, stream=True),
            "ImageFolder, bilinear": image_folder(folder, given.workers),
            "decoded copy, bilinear": ours(folder, root, "bilinear", given.workers, stream=False),
        }
        found = take_turns(contestants, given.rounds, what="loaders")
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    print(f"\nloader, {given.workers} workers, batches of {BATCH}     images/s")
    for name, rate in medians.items():
        print(f"{name:38} {rate:9.0f}")
    for mine, other in (
        ("stream, bicubic", "timm, bicubic"),
        ("stream, bilinear", "ImageFolder, bilinear"),
        ("stream, bilinear", "decoded copy, bilinear"),
    ):
        print(f"{mine} / {other}: {medians[mine] / medians[other]:.3f}")


if __name__ == "__main__":
    main()
