"""A teacher's logits on disk: `logits.npy` of shape [sample, view, class], and who they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.artifact import Artifact
from distill.config import CacheConfig
from distill.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from distill.data.datasets import Dataset

LOGITS = "logits.npy"
_RESIDENT_BYTES = 1 << 30
"""A cache up to this size is held on the device; a larger one stays on disk, memory-mapped."""


class LogitCache:
    """Random access to cached logits by (sample, view).

    Attributes:
        config: what it was made from, its views included.
        classes: class names, in the order of the logits.
        fingerprint: sha256 of the data set whose training split was its transfer set.
        logits: the array [sample, view, class] as it lies on disk, memory-mapped.
    """

    def __init__(self, artifact: Artifact, device: str = "cpu"):
        config = artifact.config
        if not isinstance(config, CacheConfig):
            raise UserError(
                "cache",
                str(artifact.path),
                f"a logit cache, this is a {config.stage}",
                "Make one with scripts/cache_logits.py.",
            )
        self.config = config
        self.path = artifact.path
        self.classes: tuple[str, ...] = tuple(artifact.record.data["classes"])
        self.fingerprint: str = artifact.record.data["fingerprint"]
        self.logits: np.ndarray = np.load(artifact.file(LOGITS), mmap_mode="r", allow_pickle=False)
        self._device = device
        self._resident: list[Tensor] | None = None
        if self.logits.nbytes <= _RESIDENT_BYTES:
            by_view = np.array(self.logits.swapaxes(0, 1), order="C")
            self._resident = list(torch.from_numpy(by_view).to(device).unbind())

    @classmethod
    def open(cls, path: str | Path, device: str = "cpu") -> LogitCache:
        """The cache in a folder that `distill cache` made.

        Raises:
            UserError: the folder is not a whole cache of ours.
        """
        from distill.artifact import ArtifactStore

        return cls(ArtifactStore(Path(path).parent.parent).read(Path(path)), device)

    def __len__(self) -> int:
        return self.logits.shape[0]

    def rows(self, index: Int64[Tensor, " b"], view: int = 0) -> Float[Tensor, "b k"]:
        """Logits of these samples in one view (taken modulo the number of views), in the stored dtype."""
        view %= self.config.views
        if self._resident is not None:
            return self._resident[view].index_select(0, index)
        return torch.from_numpy(self.logits[index.cpu().numpy(), view]).to(self._device)

    def check_fits(self, dataset: Dataset) -> None:
        """Refuse images that are not those the teacher saw.

        Raises:
            UserError: class names, number of samples or content differ.
        """
        remake = "Make the cache again for these images with scripts/cache_logits.py."
        if self.classes != dataset.classes:
            raise UserError("data.classes", dataset.classes, f"the cache's, {self.classes}", remake)
        if len(self) != len(dataset.train):
            raise UserError("data", f"{len(dataset.train)} samples", f"the cache's {len(self)}", remake)
        if self.fingerprint != dataset.fingerprint:
            expected = f"the cache's, {self.fingerprint[:16]}"
            raise UserError("data.fingerprint", dataset.fingerprint[:16], expected, remake)
