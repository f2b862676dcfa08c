"""How the batch of a step is shared out: in parts, one after another, and over the ranks of torchrun.

The gradient of a batch is the mean of those of its parts, so it does not depend on the shares. What a part sees of
the others does: the statistics of batch norm, and a loss that compares samples. When the ranks divide the parts,
each rank computes parts of its own, and these are of the part; otherwise all ranks share each part, and these are
taken over the ranks. So numbers depend on the number of parts, which is in the config, and not on that of ranks.
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
class Shares:
    """One rank's share of each batch."""

    parts: int = 1
    """Equal parts of a batch (`schedule.parts`)."""
    rank: int = 0
    world: int = 1
    """Number of ranks."""

    @classmethod
    def here(cls, parts: int) -> Shares:
        """Those of this process."""
        return cls(parts, ranks.rank(), ranks.world())

    @property
    def shared(self) -> bool:
        """Whether all ranks share each part; otherwise each has parts of its own."""
        return self.parts % self.world > 0

    @property
    def steps(self) -> int:
        """Pieces of a batch that this rank computes, one after another."""
        return self.parts if self.shared else self.parts // self.world

    def piece(self, batch: int) -> int:
        """Rows of each of those pieces, of a batch of so many.

        Raises:
            UserError: they are not equal.
        """
        pieces = self.steps * self.world
        if batch % pieces:
            shared = f"{self.parts} part(s) over {self.world} rank(s)"
            expected = f"a multiple of {pieces}, for {shared}"
            raise UserError("schedule.batch_size", batch, expected, "Set --schedule.batch-size to one.")
        return batch // pieces

    def of(self, order: Int64[Tensor, " n"], batch: int) -> Int64[Tensor, " m"]:
        """The rows of this rank in an order of whole batches, piece by piece."""
        if self.world == 1:
            return order
        blocks = self.parts if self.shared else 1
        return order.view(-1, blocks, self.world, batch // (blocks * self.world))[:, :, self.rank].reshape(-1)

    def number(self, piece: int) -> int:
        """Number of a piece among those of the whole batch, in the order of its rows."""
        return piece * self.world + self.rank if self.shared else self.rank * self.steps + piece
