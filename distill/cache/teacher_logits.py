"""Compute the logits of one or several trained teachers on the views of a transfer set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from distill.cache.ensemble import averaged
from distill.cache.shards import Piece, Shard
from distill.config import AugmentConfig, CacheConfig, EnsembleConfig, Mean
from distill.data.loader import Loader
from distill.data.network_input import NetworkInput
from distill.data.normaliser import Normaliser
from distill.data.views.views import Views
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.training.network import load_network, snapshot_step
from distill.training.predict import inference_batch

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor, nn

    from distill.data.sets.dataset import Dataset


class TeacherLogits:
    """Compute the logits of teachers in evaluation mode, each on views that are normalised as in its training.

    Args:
        config: config with the views and the mean of an ensemble.
        teachers: artifacts of `config.teachers`.
        dataset: the transfer set.
        device: device of the computation.
        workers: processes that run a view program.

    Raises:
        UserError: a teacher has other classes or takes another input shape.
    """

    def __init__(
        self, config: CacheConfig, teachers: Sequence[Artifact], dataset: Dataset, device: str, workers: int = 0
    ):
        for teacher in teachers:
            _check_input(teacher, dataset)
        self.config, part = config, config.snapshot
        steps = [None if part is None else snapshot_step(teacher, part) for teacher in teachers]
        self.networks = [load_network(teacher, device, step) for teacher, step in zip(teachers, steps, strict=True)]
        # Each network takes images as in its training, whose data need not be the transfer set.
        self._takes = [NetworkInput.of(teacher.data) for teacher in teachers]
        self._dataset = dataset
        self._loaders: dict[NetworkInput, Loader] = {}
        for takes in dict.fromkeys(self._takes):
            # Views without augmentation are what each network makes of the original image, if there are originals.
            split = takes.seen_of(dataset.train) if config.augment == AugmentConfig() else dataset.train
            views = Views(split, takes.normaliser(device), config.augment, config.view_seed, dataset.num_classes)
            self._loaders[takes] = Loader(views, inference_batch(device), seed=None, workers=workers)
        self._mean: Mean = config.teacher.mean if isinstance(config.teacher, EnsembleConfig) else "logits"
        self._device = device

    @property
    def views(self) -> Views:
        """Return the views of the transfer set as a student sees them, whose pixels the proof covers."""
        first, train = self._loaders[self._takes[0]].views, self._dataset.train
        if self._takes[0].seen_of(train) is train or self.config.augment != AugmentConfig():
            return first
        return Views(
            train, Normaliser(self._dataset.mean, self._dataset.std), AugmentConfig(), self.config.view_seed
        )

    def networks_and_images(
        self, index: Int64[Tensor, "m"], view: int
    ) -> Iterator[tuple[nn.Module, Float32[Tensor, "m c h w"]]]:
        """Yield each network with these views normalised for it."""
        for network, takes in zip(self.networks, self._takes, strict=True):
            batches = self._loaders[takes].batches(index, view)
            yield network, torch.cat([batch.images for batch in batches])

    @torch.inference_mode()
    def pieces(self, index: Int64[Tensor, "m"], view: int) -> Iterator[Piece]:
        """Yield the answers to these samples in one view, batch by batch, on the CPU."""
        for batches in zip(*(loader.batches(index, view) for loader in self._loaders.values()), strict=True):
            images = {takes: batch.images for takes, batch in zip(self._loaders, batches, strict=True)}
            answers = [net(images[takes]).float() for net, takes in zip(self.networks, self._takes, strict=True)]
            labels = batches[0].labels
            hard = labels.argmax(1) if labels.is_floating_point() else labels
            yield Piece(averaged(answers, self._mean).cpu(), hard.cpu())

    def of_shard(self, shard: Shard) -> Iterator[Piece]:
        """Yield the answers to the samples of a shard."""
        return self.pieces(torch.arange(shard.first, shard.last, device=self._device), shard.view)

    def answer(self, index: Int64[Tensor, "m"], view: int) -> Float32[Tensor, "m k"]:
        """Return all answers to these samples at once, on the CPU."""
        return torch.cat([piece.logits for piece in self.pieces(index.to(self._device), view)])


def _check_input(teacher: Artifact, dataset: Dataset) -> None:
    classes, shape = tuple(teacher.data["classes"]), tuple(teacher.data["shape"])
    way_out = "Use the data set that the teacher was trained on, or train a teacher for these images."
    if classes != dataset.classes:
        value = f"{dataset.name} with {len(dataset.classes)} classes {dataset.classes[:3]}…"
        expected = f"the teacher's {len(classes)} classes {classes[:3]}…"
        raise UserError("transfer_set", value, expected, way_out)
    takes = NetworkInput.of(teacher.data)
    resizes = takes.interpolation != "none" and dataset.shape[0] in (1, takes.shape[0])
    if shape != dataset.shape and not resizes:
        value = f"{dataset.name} of shape {dataset.shape}"
        raise UserError("transfer_set", value, f"the teacher's input shape {shape}", way_out)
