"""Read a transfer set with its teacher's logits as a torch `Dataset`, for a training loop of your own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import Dataset as TorchDataset

from distill.cache.logit_cache import LogitCache
from distill.data.loader import Batch, Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.data.views.crops import permutation
from distill.system import trust
from distill.system.files import expanded
from distill.system.runtime import default_data_root

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

_AT_A_TIME = 128
"""Number of samples that are rendered together when items are fetched; pixels do not depend on it."""


class Sample(NamedTuple):
    """Hold one item of a `CachedDataset`; torch's default collate stacks many into one `Sample` of tensors."""

    image: Float32[Tensor, "c h w"]
    """The view, normalised by the data set's mean and standard deviation."""
    label: int | Float32[Tensor, " k"]
    """The class; for a mixed view the share of each class, with a sum of 1. `F.cross_entropy` takes both."""
    teacher: Float32[Tensor, " k"]
    """The teacher's logits for this view."""
    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  (of Batch, as everywhere)
    """The index of the sample within the transfer set."""


class LabelledImage(NamedTuple):
    """Hold a held-out image, normalised, and its class."""

    image: Float32[Tensor, "c h w"]
    label: int


class CachedDataset(TorchDataset[Sample]):
    """Give the transfer set of a cache to a `DataLoader`: item i is a `Sample`, this epoch's view of image i.

    Pixels and logits depend only on index and epoch, and not on batch size, order or workers. A
    `torch.utils.data.Subset` leaves out classes or samples (of unmixed views, since a mixed view may show left-out
    samples). A spawned worker opens cache and images by their paths, and checks again that they fit; forked workers
    share the memory of their parent.

    Args:
        cache: an open cache on any device; items are on the CPU.
        data_root: folder of the images; None takes `DISTILL_DATA`, else `data/`.

    Raises:
        UserError: the images are missing, or are not those that the teacher saw.
    """

    def __init__(self, cache: LogitCache, data_root: str | Path | None = None):
        self._root = expanded(Path(default_data_root() if data_root is None else data_root)).absolute()
        self._path = cache.path.absolute()
        # The epoch is in shared memory, so that workers that live for many epochs see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._opened = _Opened(cache, self._root, progress=True)
        self.set_epoch(0)

    def __len__(self) -> int:
        """Return the number of samples of the transfer set."""
        return len(self.data.train)

    def __getitem__(self, index: int) -> Sample:
        """Return the current view of a sample."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Return the current view of each sample; `DataLoader` and `Subset` call this method for whole batches.

        Raises:
            IndexError: an index is not within the transfer set.
        """
        loader = Loader(self._parts.views, _AT_A_TIME, seed=None)
        batches = loader.batches(_within(indices, len(self)), self.view, self._parts.teacher_rows)
        return [sample for batch in batches for sample in _samples(batch)]

    def set_epoch(self, epoch: int) -> None:
        """Choose the view: epoch e shows view e mod V. Call this before you iterate over the loader.

        Loaders fetch ahead, so a call during an iteration leaves the rest of it partly in the old and partly in the
        new view (with the logits of each). timm's train script calls this method by itself.
        """
        self._epoch.fill_(epoch)
        self._parts.expect(self.view)

    @property
    def epoch(self) -> int:
        """Return the number of the current epoch."""
        return int(self._epoch)

    @property
    def view(self) -> int:
        """Return the number of the view that items show: the epoch modulo the number of views."""
        return self.epoch % self.cache.config.views

    @property
    def cache(self) -> LogitCache:
        """Return the cache that gives the logits."""
        return self._parts.cache

    @property
    def data(self) -> Dataset:
        """Return the data set: all its splits, and the mean and standard deviation of each channel."""
        return self._parts.data

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names, in the order of labels and logits."""
        return self.data.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the channels, height and width of an image."""
        return self.data.shape

    @property
    def held_out(self) -> HeldOut:
        """Return the images on which neither teacher nor student trains, without augmentation."""
        return HeldOut(self)

    def batches(
        self,
        batch_size: int,
        epoch: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
        workers: int = 0,
    ) -> Iterator[Batch[Tensor]]:
        """Yield whole batches of one epoch on the cache's device, without a `DataLoader`: the fastest way to read.

        The order is that of a student of this package with the same seed. The teacher's logits (float32) are in
        `batch.teacher`. `set_epoch` has no effect here.

        Args:
            batch_size: number of samples per batch.
            epoch: number of the epoch, which gives view and order.
            shuffle: whether every epoch has a new order, or all have the order of the transfer set.
            seed: seed of the order.
            drop_last: whether to drop the last incomplete batch, unless it is the only batch.
            workers: processes that run a view program; pixels do not depend on their number.
        """
        loader = Loader(self._parts.views_on_device, batch_size, seed=None, workers=workers)
        order = permutation(seed, epoch, len(self)) if shuffle else torch.arange(len(self))
        if drop_last:
            order = order[: len(order) // batch_size * batch_size or len(order)]
        return loader.batches(order, epoch % self.cache.config.views, self._parts.teacher_logits)

    @property
    def _parts(self) -> _Opened:
        if self._opened is None:
            self._opened = _Opened(LogitCache.open(self._path), self._root, progress=False)
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None, "_trusted": trust.current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        trust.add(state.pop("_trusted"))
        vars(self).update(state)
        # Between processes torch passes on the shared memory itself; a copy of any other kind has its own epoch.
        if not self._epoch.is_shared():
            self._epoch.share_memory_()


class HeldOut(TorchDataset[LabelledImage]):
    """Give the held-out images of a transfer set to a `DataLoader`: normalised images and their classes."""

    def __init__(self, of: CachedDataset):
        self._of = of

    def __len__(self) -> int:
        """Return the number of samples; 0 where the data set was split with `held_out` 0."""
        return len(self._of.data.held_out)

    def __getitem__(self, index: int) -> LabelledImage:
        """Return one held-out image with its class."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[LabelledImage]:
        """Return a whole batch of held-out images.

        Raises:
            IndexError: an index is not within the split.
        """
        data, index = self._of.data, _within(indices, len(self))
        images = Normaliser(data.mean, data.std)(data.held_out.pixels(index))
        return [*map(LabelledImage, images.unbind(), data.held_out.labels[index].tolist())]


class _Opened:
    """Open a cache with its images, whose augmented views can be rendered on the CPU or on the cache's device."""

    def __init__(self, cache: LogitCache, root: Path, progress: bool):
        self.cache = cache
        self.data: Dataset = load(cache.config.transfer_set, root, progress)
        cache.check_fits(self.data)
        self.views = cache.views_of(self.data)
        self.views.settle()  # workers are forked later, and then share its memory
        self.views_on_device = self.views if cache.device == "cpu" else cache.views_of(self.data, cache.device)

    def expect(self, view: int) -> None:
        """Check and map the files of a view, so that forked workers find them open."""
        shard = self.cache.manifest.storage.rows_per_shard
        self.cache.rows(torch.arange(0, len(self.cache), shard), view)

    def teacher_rows(self, index: Int64[Tensor, "b"], view: int, size: int) -> Iterator[Float32[Tensor, "b k"]]:
        """Yield logits for each batch on the CPU, from memory-mapped files of which many workers share one copy."""
        for part in index.split(size):
            yield self.cache.encoding.decode(self.cache.rows(part, view)).float()

    def teacher_logits(self, index: Int64[Tensor, "b"], view: int, size: int) -> Iterator[Float32[Tensor, "b k"]]:
        """Yield logits for each batch, on the cache's device."""
        for part in index.split(size):
            yield self.cache.logits(part, view).float()


def _samples(batch: Batch[Tensor]) -> Iterator[Sample]:
    labels = batch.labels.tolist() if batch.labels.ndim == 1 else batch.labels.unbind()
    return map(Sample, batch.images.unbind(), labels, batch.teacher.unbind(), batch.index.tolist())


def _within(indices: Sequence[int], n: int) -> Int64[Tensor, "b"]:
    """Return indices of a sequence of length n as a tensor, with negative indices counted from its end."""
    index = torch.as_tensor(indices, dtype=torch.int64)
    outside = (index < -n) | (index >= n)
    if bool(outside.any()):
        raise IndexError(f"index {int(index[outside][0])} of {n} samples")
    return torch.where(index < 0, index + n, index)
