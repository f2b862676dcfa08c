"""Files of MNIST's form, made up."""

import struct
from pathlib import Path

import torch


def idx_bytes(array: torch.Tensor) -> bytes:
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return b"\x00\x00\x08" + bytes([array.ndim]) + shape + array.numpy().tobytes()


def write_mnist(
    root: Path, pack, suffix: str, train: int = 600, test: int = 100, place: str = "MNIST/raw"
) -> dict[str, torch.Tensor]:
    """Noisy stripes whose height is their class, as the four files of MNIST."""
    folder = root / place
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    written = {}
    for part, count in (("train", train), ("t10k", test)):
        labels = torch.randint(0, 10, (count,), generator=generator).to(torch.uint8)
        images = torch.randint(0, 60, (count, 28, 28), generator=generator).to(torch.uint8)
        for row in range(2):
            images[torch.arange(count), 4 + 2 * labels.long() + row] += 180
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(pack(idx_bytes(array)))
        written |= {f"{part}-images": images, f"{part}-labels": labels}
    return written
