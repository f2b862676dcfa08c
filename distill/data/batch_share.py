"""Divide the batch of a step: into parts for gradient accumulation, and over the ranks of torchrun.

The gradient of a batch is the mean of the gradients of its parts, so it does not depend on the shares. Two things
do: the statistics of batch norm, and a loss that compares samples. When the number of ranks divides the number of
parts, each rank computes parts of its own, and both are taken over one part. Otherwise all ranks share each part,
and both are taken over the ranks. So results depend on the number of parts, which is in the config, and not on the
number of ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.errors import UserError
from distill.system import ranks

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor


@dataclass(frozen=True)
class BatchShare:
    """Say which samples of each batch one rank computes."""

    parts: int = 1
    """Number of equal parts of a batch (`schedule.parts`)."""
    rank: int = 0
    world: int = 1
    """Number of ranks."""

    @classmethod
    def here(cls, parts: int) -> BatchShare:
        """Return the `BatchShare` of this process: which rows of each batch it computes."""
        return cls(parts, ranks.rank(), ranks.world())

    @property
    def shared(self) -> bool:
        """Tell whether each micro-batch is split over all ranks; otherwise each rank has its own micro-batches."""
        return self.parts % self.world > 0

    @property
    def pieces(self) -> int:
        """Return how many micro-batches (or shares of them) this rank computes per batch, one after another."""
        return self.parts if self.shared else self.parts // self.world

    def rows(self, batch: int) -> int:
        """Return how many samples a rank computes at a time, after all ranks have cut the batch into equal pieces.

        Raises:
            UserError: the batch cannot be cut into equal pieces.
        """
        pieces = self.pieces * self.world
        if batch % pieces:
            shared = f"{self.parts} part(s) over {self.world} rank(s)"
            expected = f"a multiple of {pieces}, for {shared}"
            raise UserError("schedule.batch_size", batch, expected, "Set `schedule.batch_size` to such a multiple.")
        return batch // pieces

    def of(self, order: Int64[Tensor, " n"], batch: int) -> Int64[Tensor, " m"]:
        """Select this rank's samples from an epoch's shuffled sample indices, which must make up whole batches."""
        if self.world == 1:
            return order
        blocks = self.parts if self.shared else 1
        return order.view(-1, blocks, self.world, batch // (blocks * self.world))[:, :, self.rank].reshape(-1)

    def number(self, piece: int) -> int:
        """Return the position, within the batch, of the `piece`-th micro-batch (or share of one) of this rank."""
        return piece * self.world + self.rank if self.shared else self.rank * self.pieces + piece
