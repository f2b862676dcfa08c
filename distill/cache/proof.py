"""The proof of a cache: for a sample of its views, a checksum of the pixels and the exact logits.

Whoever reads the cache renders these views again: other pixels mean that augmentation, images or a library have
changed, and that the stored logits are not answers to what a student would see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from distill.data.checksum import pixel_checksum
from distill.data.hashing import Stream, counter_hash, shift_right
from distill.system.reading import read_tensors

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int64
    from torch import Tensor

    from distill.data.loader import Loader

PROOF = "proof.safetensors"
_MOST, _FEWEST, _FEWEST_PER_VIEW, _ONE_IN = 1024, 32, 8, 64
_BYTES = 16 << 20


@dataclass(frozen=True)
class Proof:
    """A sample of the views of a cache, sorted by view."""

    index: Int64[Tensor, "p"]
    view: Int64[Tensor, "p"]
    checksum: Int64[Tensor, "p"]
    """Of the pixels, by `checksum.pixel_checksum`."""
    logits: Float32[Tensor, "p k"]
    """Exact, all classes."""

    def __len__(self) -> int:
        """Number of views."""
        return len(self.index)

    def save(self, folder: Path) -> None:
        """Write it."""
        save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, str(folder / PROOF))

    @classmethod
    def load(cls, path: Path) -> Proof:
        """Read it.

        Raises:
            UserError: the file is damaged, or holds something else.
        """
        forms = {"index": "I64 p", "view": "I64 p", "checksum": "I64 p", "logits": "F32 p k"}
        return cls(**read_tensors(path, forms))

    def subset(self, rows: Int64[Tensor, "m"]) -> Proof:
        """Some of its views."""
        rows = rows.sort().values
        return Proof(self.index[rows], self.view[rows], self.checksum[rows], self.logits[rows])

    def random(self, count: int, generator: torch.Generator | None = None) -> Proof:
        """At most so many of its views, drawn at random."""
        return self.subset(torch.randperm(len(self), generator=generator)[:count])

    def first_views(self, views: int) -> Proof:
        """What it holds of the first so many views."""
        return self.subset((self.view < views).nonzero().squeeze(1))

    def same_pixels(self, loader: Loader) -> Bool[Tensor, "p"]:
        """Which of the views the loader renders as they were rendered for the teacher."""
        return torch.cat([
            pixel_checksum(loader.pixels(self.index[rows], view)).cpu() == self.checksum[rows]
            for view, rows in by_view(self.view)
        ] or [torch.empty(0, dtype=torch.bool)])  # fmt: skip


def choose(samples: int, views: int, classes: int, seed: int) -> tuple[Int64[Tensor, "p"], Int64[Tensor, "p"]]:
    """(index, view) of the views to prove, sorted by view.

    One in 64, 32 to 1,024 of them, but at least 8 of each view; at most 16 MiB of logits, but one of each view.
    """
    wanted = min(max(_FEWEST, samples * views // _ONE_IN), _MOST)
    per_view = max(_FEWEST_PER_VIEW, -(-wanted // views))
    per_view = min(samples, max(1, min(per_view, _BYTES // (4 * classes * views))))
    chosen = []
    for view in range(views):
        draws = shift_right(counter_hash(Stream.PROOF, seed, view, torch.arange(4 * per_view)), 1) % max(1, samples)
        # Each sample once, in the order of the draws.
        chosen.append(torch.tensor(list(dict.fromkeys(draws.tolist()))[:per_view], dtype=torch.int64))
    view = torch.arange(views).repeat_interleave(torch.tensor([len(part) for part in chosen]))
    return torch.cat(chosen), view


def by_view(view: Int64[Tensor, "p"]) -> list[tuple[int, Int64[Tensor, "m"]]]:
    """Each view number, with the positions that have it."""
    return [(int(number), (view == number).nonzero().squeeze(1)) for number in view.unique()]


def prove(
    index: Int64[Tensor, "p"],
    view: Int64[Tensor, "p"],
    loader: Loader,
    answer: Callable[[Int64[Tensor, "b"], int], Float32[Tensor, "b k"]],
) -> Proof:
    """Render these views, and ask the teacher again.

    Args:
        index: samples, and
        view: their views, as `choose` gave them.
        loader: of the transfer set and the views.
        answer: (index, view) → logits on the CPU.
    """
    parts = by_view(view)
    checksums = [pixel_checksum(loader.pixels(index[rows], number)).cpu() for number, rows in parts]
    logits = [answer(index[rows], number) for number, rows in parts]
    return Proof(index, view, torch.cat(checksums), torch.cat(logits))
