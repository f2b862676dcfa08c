"""Import logits from elsewhere as a cache: check them against the images, and bring them into order.

The sha256 of the files is proven. Who made the logits, and from which pixels, is declared by the user; the manifest
says which facts are declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.cache.fitness import least_accuracy, refuse_if_wrong
from distill.cache.foreign import ForeignArrays
from distill.cache.row_names import declared_names
from distill.cache.shards import Piece, Shard
from distill.cache.tinyvit import NamesOf, TinyViTLogits, find_epochs
from distill.cache.writing import make_manifest, write_cache
from distill.config import CacheConfig, ImportConfig, ImportFlags
from distill.data.sets.load import load
from distill.data.tokens import refuse_cache
from distill.data.views.views import Views
from distill.errors import UserError
from distill.pipeline.identity import identify
from distill.pipeline.import_order import columns_by_name, names_of, rows_by_name, rows_of_split
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.outcome import Outcome
from distill.store.store import ArtifactStore
from distill.system.files import expanded, sha256
from distill.system.progress import bar
from distill.system.reading import read_lines
from distill.system.runtime import Runtime
from distill.training.tracking import warn

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

    from distill.data.sets.dataset import Dataset

_GATE_ROWS, _GATE_VALUES = 4096, 1 << 23
"""Largest number of rows of each view, and of values, on which the accuracy is measured."""
_ORDER_IS_DECLARED = (
    "the order of the rows is declared, not proven: rows that change places within a class are not noticed. Give "
    "the name of each row's image (`names`, or an array `paths` in a .npz)."
)
_PIECE_ROWS, _PIECE_VALUES = 2048, 1 << 22


def import_logits(files: Sequence[Path], store: ArtifactStore, runtime: Runtime, flags: ImportFlags) -> Artifact:
    """Make a cache of the logits in files, or find the cache that was made of these files with these settings.

    Args:
        files: arrays of one shape, whose mean is taken; or the epoch folders of one TinyViT file set, one for
            each view, or the folder that holds them. They have a row for each image of the training split, or of
            the whole training set as published (train and held-out).
        store: store of the cache.
        runtime: data root, progress, and the accuracy below which nothing is imported.
        flags: what the user says about the logits.

    Raises:
        UserError: the files are damaged, do not fit the data set, do not contain what the flags say, or answer no
            better than chance.
    """
    flags = identify(flags, runtime)
    dataset = load(flags.data, runtime.data_root, runtime.progress)
    refuse_cache(dataset)
    classes = _names(flags.classes)
    source = _open(files, flags, dataset, names_of(flags.data, dataset, runtime))
    is_top_k = isinstance(source, TinyViTLogits)
    if is_top_k and flags.names is not None:
        expected = "none with a TinyViT file set, whose keys say which image a record belongs to"
        raise UserError("names", str(flags.names), expected, "Drop `names`.")
    names = None if is_top_k else declared_names(source.files, flags.names)
    count = source.shape[0]
    if names is None:
        rows = rows_of_split(count, dataset, flags.data.limit is not None)
    else:
        rows = rows_by_name(names, count, flags, dataset, runtime)
    columns = columns_by_name(classes, source.shape[2], dataset.classes)
    hashed = bar(source.files, "hash", unit="file", delay=2, disable=None if runtime.progress else True)
    config = CacheConfig(
        teacher=ImportConfig(
            sha256=tuple(sha256(path) for path in hashed),
            values="probabilities" if is_top_k else flags.values,
            mean="probabilities" if is_top_k or len(files) == 1 else flags.mean,
            temperature=flags.temperature,
            classes=classes or dataset.classes,
            teacher=flags.teacher,
            names=sha256(flags.names) if flags.names else "",
        ),
        transfer_set=flags.data,
        augment=flags.augment,
        views=source.shape[1],
        view_seed=flags.view_seed,
        dtype=flags.dtype,
        top_k=_kept_of(source, flags.top_k) if is_top_k else flags.top_k,
    )
    views = Views.of_training(dataset, config.augment, config.view_seed)
    aligned = Aligned(source, rows, columns, config, dataset, views)
    declared = ["teacher weights", "preprocessing", "views"]
    if not (source.named if is_top_k else names is not None):
        declared.append("sample order")
        if runtime.progress:
            warn("sample order", _ORDER_IS_DECLARED)
    declared += [] if classes else ["class order"]
    declared += ["temperature"] if flags.temperature != 1 else []
    made = partial(_write, aligned, tuple(declared), runtime=runtime)
    return store.find(config) or run_stage(config, store, runtime, made)


@dataclass(frozen=True)
class Aligned:
    """Hold logits from elsewhere in the order of the samples and classes of a training split."""

    source: ForeignArrays | TinyViTLogits
    """The logits as they are in the files."""
    rows: Int64[np.ndarray, " n"]
    """Row of each training sample."""
    columns: Int64[Tensor, " k"] | None
    """Column of each class; None when the columns are in order."""
    config: CacheConfig
    dataset: Dataset
    views: Views
    """Views that the logits belong to."""

    def answer(self, index: Int64[Tensor, " b"], view: int) -> Float32[Tensor, "b k"]:
        """Return the logits of training samples in one view.

        Raises:
            UserError: a row is not what the values are said to be.
        """
        logits = self.source.rows(self.rows[index.numpy()], view)
        return logits if self.columns is None else logits[:, self.columns]

    def labels(self, index: Int64[Tensor, " b"], view: int) -> Int64[Tensor, " b"]:
        """Return the labels of training samples in one view; for a mixed view, the class with the largest share."""
        labels = self.views.labels_of(index, view)
        return labels.argmax(1) if labels.is_floating_point() else labels

    def of_shard(self, shard: Shard) -> Iterator[Piece]:
        """Yield the logits and labels of the samples of a shard, some samples at a time."""
        size = _rows_within(_PIECE_ROWS, _PIECE_VALUES, self.source.shape[2])
        for index in torch.arange(shard.first, shard.last).split(size):
            yield Piece(self.answer(index, shard.view), self.labels(index, shard.view))

    def accuracy(self, least: float | None, accept_class_order: bool) -> float:
        """Return the smallest accuracy of any view, measured on a sample of the rows.

        Args:
            least: lowest accuracy that is accepted; None asks for more than chance.
            accept_class_order: whether another order of the classes may fit the logits better.

        Raises:
            UserError: a view is less accurate, which is what rows or columns in another order look like.
        """
        count = _rows_within(_GATE_ROWS, _GATE_VALUES, self.source.shape[2])
        index = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(0))[:count].sort().values
        reached = []
        for view in range(self.config.views):
            labels = self.labels(index, view)
            wanted = least_accuracy(labels) if least is None else least
            logits = self.answer(index, view)
            accuracy = refuse_if_wrong(
                logits, labels, self.dataset.classes, wanted, "files", accept_class_order=accept_class_order
            )
            reached.append(accuracy)
        return min(reached)


def _rows_within(rows: int, values: int, classes: int) -> int:
    return min(rows, max(64, values // classes))


def _names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Read the class names from a file, one per line, if a file is given instead of names."""
    if len(given) == 1 and (path := expanded(Path(given[0]))).is_file():
        return tuple(filter(None, read_lines(path, "classes")))
    return given


def _open(
    files: Sequence[Path], flags: ImportFlags, dataset: Dataset, names: NamesOf | None
) -> ForeignArrays | TinyViTLogits:
    if not files:
        raise UserError("files", "none", "at least one", "Give arrays, or the epoch folders of a TinyViT file set.")
    epochs = [find_epochs(path) for path in files]
    if all(epochs):
        if flags.temperature != 1:
            expected = "1 for a TinyViT file set, which holds probabilities at temperature 1"
            raise UserError("temperature", flags.temperature, expected, "Drop `temperature`.")
        return TinyViTLogits([*chain(*epochs)], len(dataset.classes), names)
    if any(epochs):
        raise UserError("files", [path.name for path in files], "arrays or TinyViT folders", "Import one kind.")
    return ForeignArrays(files, flags.values, flags.mean, flags.temperature)


def _kept_of(source: TinyViTLogits, top_k: int | None) -> int | None:
    """Return how many of the logits in TinyViT's files to keep per image; None to keep every class."""
    if top_k is not None and top_k > source.top_k:
        raise UserError("top_k", top_k, f"at most the {source.top_k} classes of the files", "Lower `top_k`.")
    return top_k or (source.top_k if source.top_k < source.shape[2] else None)


def _write(aligned: Aligned, declared: tuple[str, ...], folder: Path, runtime: Runtime) -> Outcome:
    accuracy = aligned.accuracy(runtime.min_teacher_accuracy, runtime.accept_class_order)
    config, dataset = aligned.config, aligned.dataset
    manifest = make_manifest(config, dataset, declared=declared)
    metrics = write_cache(
        folder, config, manifest, aligned.views, aligned.of_shard, aligned.answer, runtime.progress
    )
    return Outcome(metrics | {"gate/accuracy": accuracy}, dataset.identity())
