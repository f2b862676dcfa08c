"""Read a cache as a student does: logits by (sample, view), after a check that they belong to its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill.cache.manifest import MANIFEST, check_data, read_manifest, view_identity
from distill.cache.proof import PROOF, Proof, by_view
from distill.cache.remake import remake
from distill.cache.shards import Layout, ShardReader, layout_of
from distill.config import CacheConfig
from distill.data.views.views import Views
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.libraries import PIXELS, versions

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32, Int64
    from numpy.typing import ArrayLike
    from torch import Tensor

    from distill.data.sets.dataset import Dataset

RESIDENT_BYTES = 1 << 30
"""Largest dense cache that is held on the device, in bytes; other caches stay on disk, memory-mapped."""
_CHECKED_VIEWS = 64
"""Number of views of the proof that are rendered again when a student opens a cache."""


class LogitCache:
    """Read cached logits by (sample, view); each file is checked against its sha256 when it is mapped.

    Attributes:
        config: config of the cache, with its views.
        manifest: description of the teacher, the images and the views that the cache belongs to.
        classes: class names, in the order of the logits.
        encoding: form of a stored row.
        device: device of the logits that are returned.
    """

    def __init__(self, artifact: Artifact, device: str = "cpu"):
        config = artifact.config
        if not isinstance(config, CacheConfig):
            expected = f"a logit cache, this is a {config.stage}"
            raise UserError("cache", str(artifact.path), expected, "Make one with `distill cache`.")
        self.config, self.path, self.device, self._artifact = config, artifact.path, device, artifact
        self.manifest = read_manifest(artifact.file(MANIFEST))
        self.classes = self.manifest.data.classes
        layout = layout_of(config, self.manifest.data.samples, len(self.classes))
        self._check_manifest(layout)
        self.encoding = layout.encoding
        self._reader = ShardReader(artifact.file, layout)
        self._is_resident = 4 * layout.values <= RESIDENT_BYTES and config.top_k is None
        self._resident: dict[int, Tensor] = {}

    def _check_manifest(self, layout: Layout) -> None:
        """Refuse a `manifest.json` that contradicts the artifact's `record.json` and so may be forged."""
        where, way_out = str(self.path / MANIFEST), self._artifact.rebuild
        teachers, expected = len(self.manifest.teachers), len(self.config.teachers)
        if teachers != expected:
            raise UserError(where, f"{teachers} teachers", f"{expected}", way_out)
        if self.manifest.views != view_identity(self.config):
            raise UserError(where, "other views", "the program, number and seed of the record", way_out)
        # This is checked before the shards are listed, since a made-up number may be huge.
        shards, files = layout.views * layout.shards_per_view, len(self._artifact.record.files)
        if shards > files:
            raise UserError(where, f"{shards:,} shards", f"at most the {files} files of its record", way_out)

    @classmethod
    def open(cls, path: str | Path, device: str = "cpu") -> LogitCache:
        """Open the cache in a folder that `distill cache` or `distill import` made.

        Raises:
            UserError: the folder is not a whole cache of this package.
        """
        return cls(ArtifactStore(Path(path).parent.parent).read(Path(path)), device)

    def __len__(self) -> int:
        return self.manifest.data.samples

    def logits(self, index: ArrayLike | Int64[Tensor, "*b"], view: int = 0) -> Float32[Tensor, "*b k"]:
        """Return the logits of these samples in one view (taken modulo the number of views), on the device.

        The missing classes of a `top_k` cache share its tail.

        Args:
            index: number of one sample, or a list, an array or a tensor of numbers.
            view: number of the view.

        Raises:
            IndexError: there is no such sample.
            UserError: a file that is read for the first time is missing or damaged.
        """
        view %= self.config.views
        index = torch.as_tensor(index, device=self.device)
        if index.ndim == 0:
            return self.logits(index[None], view)[0]
        if not self._is_resident:
            return self.encoding.decode(self.rows(index, view)).to(self.device)
        if view not in self._resident:
            self._resident[view] = self.encoding.decode(self._reader.view(view)).to(self.device)
        return self._resident[view].index_select(0, index)

    def rows(self, index: Int64[Tensor, " b"], view: int = 0) -> np.ndarray:
        """Return the rows of these samples in their stored form: an array of the encoding's row type."""
        return self._reader.rows(index.cpu().numpy(), view % self.config.views)

    def logits_of_view(self, view: int = 0) -> Float32[Tensor, "n k"]:
        """Return all logits of one view on the CPU, for measures such as the inter-class logit variance.

        Raises:
            UserError: the cache is truncated, or its views are mixed.
        """
        augment, top_k = self.config.augment, self.config.top_k
        if augment.mixes:
            value = {"mixup": augment.mixup, "cutmix": augment.cutmix}
            expected = "a cache of unmixed views, since a mixed one has no single correct class"
            command = self._command(augment=augment.replace(mixup=0, cutmix=0), views=1)
            raise UserError("augment", value, expected, f"Make one: {command}")
        if top_k not in (None, len(self.classes)):
            expected = "a cache of all logits, since truncation removes the variance over the incorrect classes"
            raise UserError("top_k", top_k, expected, f"Make one: {self._command(top_k=None)}")
        return self.logits(torch.arange(len(self), device=self.device), view).cpu()

    def check_fits(self, dataset: Dataset, views: int | None = None) -> None:
        """Refuse a data set whose images, classes, order, views or (in a sample) pixels the teacher did not see.

        Args:
            dataset: data set whose training split the student sees.
            views: number of views that the student reads; None takes all.

        Raises:
            UserError: something differs; the message has the field, both values, and the command that makes the
                right cache.
        """
        views = views or self.config.views
        changes: dict[str, Any] = {"views": views}
        if self.manifest.data.name != dataset.name:
            changes["transfer_set"] = self.config.transfer_set.replace(name=dataset.name, kwargs={})
        way_out = f"Make one that fits: {self._command(**changes)}"
        check_data(self.manifest.data, dataset, way_out)
        if views > self.config.views:
            raise UserError("views", views, f"at most the cache's {self.config.views}", way_out)
        proof = self.proof().first_views(views).random(_CHECKED_VIEWS, torch.Generator().manual_seed(0))
        self._check_rows(proof)
        same = proof.same_pixels(self.views_of(dataset))
        if bool(same.all()):
            return
        made, here = self.manifest.libraries, versions(PIXELS)
        changed = [f"{name} {made[name]} → {here[name]}" for name in made if made[name] != here.get(name)]
        value = f"{int((~same).sum())} of {len(proof)} views with other pixels"
        suspects = f" (changed since: {', '.join(changed)})" if changed else ""
        expected = f"the pixels that the teacher saw{suspects}"
        raise UserError("views", value, expected, f"Make it again: {self._command()}")

    def _check_rows(self, proof: Proof) -> None:
        """Refuse stored logits that differ, beyond rounding, from the exact ones that are kept for a sample."""
        for view, rows in by_view(proof.view):
            exact, stored = proof.logits[rows], self.rows(proof.index[rows], view)
            if not self.encoding.agrees(exact, stored):
                value = f"rows of view {view} that differ by {self.encoding.rounding_error(exact, stored):.3g}"
                raise UserError(str(self.path), value, "the logits of its proof", self._artifact.rebuild)

    def views_of(self, dataset: Dataset, device: str = "cpu") -> Views:
        """Return the views (augmented images) that the teacher saw, normalised by the statistics of `dataset`."""
        return Views.of_training(dataset, self.config.augment, self.config.view_seed, device)

    def proof(self) -> Proof:
        """Load the pixel checksums and the exact logits that the cache keeps for a sample of its views."""
        return Proof.load(self._artifact.file(PROOF))

    def _command(self, **changes: object) -> str:
        try:
            return remake(self.config, self.path, self.classes, **changes)
        except UserError as error:  # the changes make no valid cache, such as views without augmentation
            return str(error)
