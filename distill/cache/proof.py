"""Prove that a cache belongs to its images and teacher, by pixel checksums and exact logits of some of its views.

Every reader of the cache renders some of these views again. Other pixels mean that augmentation, images or a
library have changed, so that the stored logits are not answers to what a student would see.
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

    from distill.data.views.views import Views

PROOF = "proof.safetensors"
_MOST, _FEWEST, _FEWEST_PER_VIEW, _ONE_IN = 1024, 32, 8, 64
_BYTES = 16 << 20
"""Largest size of the logits of a proof, in bytes, unless one sample of each view number has more."""


@dataclass(frozen=True)
class Proof:
    """Hold checksums of pixels and exact logits for a sample of the views of a cache, sorted by view number."""

    index: Int64[Tensor, "p"]
    view: Int64[Tensor, "p"]
    checksum: Int64[Tensor, "p"]
    """Checksums of the pixels, by `checksum.pixel_checksum`."""
    logits: Float32[Tensor, "p k"]
    """Exact logits of all classes."""

    def __len__(self) -> int:
        """Return the number of views of the sample."""
        return len(self.index)

    def save(self, folder: Path) -> None:
        """Write the checksums and logits to a file in a folder."""
        save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, str(folder / PROOF))

    @classmethod
    def load(cls, path: Path) -> Proof:
        """Read checksums and logits from a file that `save` wrote.

        Raises:
            UserError: the file is damaged, or holds something else.
        """
        forms = {"index": "I64 p", "view": "I64 p", "checksum": "I64 p", "logits": "F32 p k"}
        return cls(**read_tensors(path, forms))

    def subset(self, rows: Int64[Tensor, "m"]) -> Proof:
        """Return the checksums and logits of some of the sampled views, sorted by view number."""
        rows = rows.sort().values
        return Proof(self.index[rows], self.view[rows], self.checksum[rows], self.logits[rows])

    def random(self, count: int, generator: torch.Generator | None = None) -> Proof:
        """Return the checksums and logits of at most `count` of the sampled views, drawn at random."""
        return self.subset(torch.randperm(len(self), generator=generator)[:count])

    def first_views(self, views: int) -> Proof:
        """Return the checksums and logits of the sampled views whose number is below `views`."""
        return self.subset((self.view < views).nonzero().squeeze(1))

    def same_pixels(self, views: Views) -> Bool[Tensor, "p"]:
        """Say for each view of the sample whether its pixels are those that the teacher saw."""
        return torch.cat([
            pixel_checksum(views.pixels(self.index[rows], view)).cpu() == self.checksum[rows]
            for view, rows in by_view(self.view)
        ] or [torch.empty(0, dtype=torch.bool)])  # fmt: skip


def choose(samples: int, views: int, classes: int, seed: int) -> tuple[Int64[Tensor, "p"], Int64[Tensor, "p"]]:
    """Choose which (sample index, view number) pairs get a checksum and exact logits, sorted by view number.

    One view in 64 is chosen, 32 to 1,024 in all, but at least 8 samples of each view number; fewer where the logits
    would take more than 16 MiB, but at least one of each.
    """
    wanted = min(max(_FEWEST, samples * views // _ONE_IN), _MOST)
    per_view = max(_FEWEST_PER_VIEW, -(-wanted // views))
    per_view = min(samples, max(1, min(per_view, _BYTES // (4 * classes * views))))
    chosen = []
    for view in range(views):
        draws = shift_right(counter_hash(Stream.PROOF, seed, view, torch.arange(4 * per_view)), 1) % max(1, samples)
        # A sample that is drawn twice counts once, in the order of the draws.
        chosen.append(torch.tensor(list(dict.fromkeys(draws.tolist()))[:per_view], dtype=torch.int64))
    view = torch.arange(views).repeat_interleave(torch.tensor([len(part) for part in chosen]))
    return torch.cat(chosen), view


def by_view(view: Int64[Tensor, "p"]) -> list[tuple[int, Int64[Tensor, "m"]]]:
    """Group the positions in `view` by view number: return each number with the positions at which it stands."""
    return [(int(number), (view == number).nonzero().squeeze(1)) for number in view.unique()]


def prove(
    index: Int64[Tensor, "p"],
    view: Int64[Tensor, "p"],
    views: Views,
    answer: Callable[[Int64[Tensor, "b"], int], Float32[Tensor, "b k"]],
) -> Proof:
    """Render the views of (index, view) pairs; return their pixel checksums and the teacher's logits for them."""
    parts = by_view(view)
    checksums = [pixel_checksum(views.pixels(index[rows], number)).cpu() for number, rows in parts]
    logits = [answer(index[rows], number) for number, rows in parts]
    return Proof(index, view, torch.cat(checksums), torch.cat(logits))
