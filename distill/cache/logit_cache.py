"""Read a cache as a student does: logits by (sample, view), and the proof that they belong to its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.cache.manifest import MANIFEST, check_data, check_views, read_manifest, view_identity
from distill.cache.manifest import pixel_libraries as libraries_here
from distill.cache.proof import PROOF, Proof
from distill.cache.remake import remake
from distill.cache.shards import Layout, ShardReader, layout_of
from distill.config import AugmentConfig, CacheConfig
from distill.data.loader import Loader
from distill.data.normaliser import Normaliser
from distill.data.views.views import Views
from distill.errors import UserError
from distill.metrics.dark_knowledge import InterclassVariance, interclass_variance
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int64
    from torch import Tensor

    from distill.data.sets.dataset import Dataset

_RESIDENT_BYTES = 1 << 30
"""Largest dense cache that is held on the device, in bytes; other caches stay on disk, memory-mapped."""
_PROVEN = 64
"""Number of views that are rendered again when a student opens a cache."""


class LogitCache:
    """Random access to cached logits by (sample, view). A file is checked against its sha256 when it is first read.

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
            raise UserError(
                "cache",
                str(artifact.path),
                f"a logit cache, this is a {config.stage}",
                "Make one with `distill cache`.",
            )
        self.config, self.path, self.device, self._artifact = config, artifact.path, device, artifact
        self.manifest = read_manifest(artifact.file(MANIFEST))
        self.classes = self.manifest.data.classes
        layout = layout_of(config, self.manifest.data.samples, len(self.classes))
        self._check_manifest(layout)
        self.encoding = layout.encoding
        self._reader = ShardReader(artifact.file, layout)
        self._fits = layout.bytes <= _RESIDENT_BYTES and config.top_k is None
        self._resident: dict[int, Tensor] = {}

    def _check_manifest(self, layout: Layout) -> None:
        """Refuse a manifest that contradicts the record, since somebody may have made it up."""
        teachers, shards = len(self.config.teachers), layout.views * layout.shards_per_view
        if len(self.manifest.teachers) != teachers:
            found = f"{len(self.manifest.teachers)} teachers"
            raise UserError(str(self.path / MANIFEST), found, f"{teachers}", self._artifact.rebuild)
        # This is checked before the shards are listed, since a made-up number may be huge.
        if shards > (files := len(self._artifact.record.files)):
            expected = f"at most the {files} files of its record"
            raise UserError(str(self.path / MANIFEST), f"{shards:,} shards", expected, self._artifact.rebuild)

    @classmethod
    def open(cls, path: str | Path, device: str = "cpu") -> LogitCache:
        """Open the cache in a folder that `distill cache` or `distill import` made.

        Raises:
            UserError: the folder is not a whole cache of this package.
        """
        return cls(ArtifactStore(Path(path).parent.parent).read(Path(path)), device)

    def __len__(self) -> int:
        return self.manifest.data.samples

    def logits(self, index: Int64[Tensor, " b"], view: int = 0) -> Float[Tensor, "b k"]:
        """Return the logits of these samples in one view (taken modulo the number of views), on the device.

        They have the stored dtype. The logits of a `top_k` cache are float32, with the tail spread over the missing
        classes.

        Raises:
            UserError: a file that is read for the first time is missing or damaged.
        """
        view %= self.config.views
        if not self._fits:
            return self.encoding.decode(self.rows(index, view)).to(self.device)
        if view not in self._resident:
            self._resident[view] = self.encoding.decode(self._reader.view(view)).to(self.device)
        return self._resident[view].index_select(0, index)

    def rows(self, index: Int64[Tensor, " b"], view: int = 0) -> np.ndarray:
        """Return the rows of these samples in their stored form: an array of the encoding's row type."""
        return self._reader.rows(index.cpu().numpy(), view % self.config.views)

    def interclass_variance(self, labels: Int64[Tensor, " n"], view: int = 0) -> InterclassVariance:
        """Measure the inter-class logit variance of the teacher on one view of the transfer set.

        Raises:
            UserError: the cache is truncated, or its views are mixed.
        """
        if self.config.augment.mixes:
            plain = self.config.augment.replace(mixup=0, cutmix=0)
            raise UserError(
                "augment",
                {"mixup": self.config.augment.mixup, "cutmix": self.config.augment.cutmix},
                "a cache of unmixed views, since a mixed one has no single correct class",
                f"Make one: {self._command(augment=plain, views=1)}",
            )
        if self.config.top_k not in (None, len(self.classes)):
            raise UserError(
                "top_k",
                self.config.top_k,
                "a cache of all logits, since the variance over the incorrect classes is what truncation removes",
                f"Make one: {self._command(top_k=None)}",
            )
        return interclass_variance(self.logits(torch.arange(len(self), device=self.device), view).cpu(), labels)

    def check_fits(
        self,
        dataset: Dataset,
        augment: AugmentConfig | None = None,
        views: int | None = None,
        view_seed: int | None = None,
    ) -> None:
        """Refuse images, classes, order or views that the teacher did not see, and prove the pixels on a sample.

        Args:
            dataset: data set whose training split the student sees.
            augment: view program of a training loop of your own; None takes that of the cache.
            views: number of views that the student reads; None takes all.
            view_seed: seed of the student's views; None takes that of the cache.

        Raises:
            UserError: something differs; the message has the field, both values, and the command that makes the
                right cache.
        """
        cached = self.manifest
        wanted = view_identity(
            self.config.augment if augment is None else augment,
            self.config.views if views is None else views,
            self.config.view_seed if view_seed is None else view_seed,
        )
        changes = {"augment": AugmentConfig(**wanted.augment), "views": wanted.views, "view_seed": wanted.seed}
        if cached.data.name != dataset.name:
            changes["transfer_set"] = self.config.transfer_set.replace(name=dataset.name, kwargs={})
        way_out = f"Make one that fits: {self._command(**changes)}"
        check_data(cached.data, dataset, way_out)
        check_views(cached.views, wanted, way_out)
        self._check_pixels(dataset, wanted.views)

    def _check_pixels(self, dataset: Dataset, views: int) -> None:
        proof = self.proof().first_views(views).random(_PROVEN, torch.Generator().manual_seed(0))
        same = proof.same_pixels(self.loader(dataset))
        if bool(same.all()):
            return
        made, here = self.manifest.libraries, libraries_here()
        changed = [f"{name} {made[name]} → {here[name]}" for name in made if made[name] != here.get(name)]
        value = f"{int((~same).sum())} of {len(proof)} views with other pixels"
        suspects = f" (changed since: {', '.join(changed)})" if changed else ""
        way_out = f"Make it again: {self._command()}"
        raise UserError("views", value, f"the pixels that the teacher saw{suspects}", way_out)

    def loader(self, dataset: Dataset, device: str = "cpu", batch_size: int = 128, workers: int = 0) -> Loader:
        """Make a loader of this cache's views, in the order of the transfer set."""
        return view_loader(self.config, dataset, dataset.mean, dataset.std, device, batch_size, workers)

    def proof(self) -> Proof:
        """Load the sample of views whose pixels and logits are proven."""
        return Proof.load(self._artifact.file(PROOF))

    def _command(self, **changes: object) -> str:
        try:
            return remake(self.config, self.path, self.classes, **changes)
        except UserError as error:  # the changes make no valid cache, such as views without augmentation
            return str(error)


def view_loader(
    config: CacheConfig,
    dataset: Dataset,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: str,
    batch_size: int,
    workers: int = 0,
) -> Loader:
    """Make a loader of a cache's views, normalised for one network, in the order of the transfer set."""
    normalise = Normaliser(mean, std, device)
    views = Views(dataset.train, normalise, config.augment, config.view_seed, dataset.num_classes)
    return Loader(views, batch_size, seed=None, cycle=config.views, drop_last=False, workers=workers)
