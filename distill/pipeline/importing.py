"""Import logits from elsewhere as a cache: check them against the images, and bring them into order.

The sha256 of the files is proven. Who made the logits, and from which pixels, is declared by the user; the manifest
says which facts are declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.cache.fitness import least_accuracy, refuse_if_wrong
from distill.cache.foreign import ForeignArrays
from distill.cache.shards import Piece, Shard
from distill.cache.tinyvit import NamesOf, TinyViTLogits, find_epochs
from distill.cache.writing import make_manifest, write_cache
from distill.config import CacheConfig, DataConfig, ImportConfig, ImportFlags, Mean, Values
from distill.data.sets.decoded_copy import decode_once
from distill.data.sets.load import load
from distill.data.tokens import refuse_cache
from distill.data.views.views import Views
from distill.errors import UserError
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.outcome import Outcome
from distill.store.store import ArtifactStore
from distill.system.files import sha256
from distill.system.progress import bar
from distill.system.runtime import Runtime

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

    from distill.data.sets.dataset import Dataset

_GATE_ROWS, _GATE_VALUES = 4096, 1 << 23
"""Largest number of rows of each view, and of values, on which the accuracy is measured."""
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
    dataset = load(flags.data, runtime.data_root, runtime.progress)
    refuse_cache(dataset)
    classes = _names(flags.classes)
    source = _open(files, flags.values, flags.mean, dataset, _names_of(flags.data, dataset, runtime))
    is_top_k = isinstance(source, TinyViTLogits)
    rows = rows_of_split(source.shape[0], dataset)
    columns = columns_by_name(classes, source.shape[2], dataset.classes)
    hidden = None if runtime.progress else True
    hashed = bar(source.files, "hash", unit="file", delay=2, disable=hidden)
    config = CacheConfig(
        teacher=ImportConfig(
            sha256=tuple(sha256(path) for path in hashed),
            values="probabilities" if is_top_k else flags.values,
            mean="probabilities" if is_top_k or len(files) == 1 else flags.mean,
            classes=classes or dataset.classes,
            teacher=flags.teacher,
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
    declared += [] if is_top_k and source.named else ["sample order"]
    declared += [] if classes else ["class order"]
    return store.find(config) or run_stage(
        config, store, runtime, lambda draft: _write(aligned, tuple(declared), draft, runtime)
    )


@dataclass(frozen=True)
class Aligned:
    """Logits from elsewhere, brought into the order of the samples and classes of a training split."""

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
        """Return the labels of training samples in one view; the label of a mixed view is its largest class."""
        labels = self.views.labels_of(index, view)
        return labels.argmax(1) if labels.is_floating_point() else labels

    def of_shard(self, shard: Shard) -> Iterator[Piece]:
        """Yield the logits and labels of the samples of a shard, some samples at a time."""
        size = _rows_within(_PIECE_ROWS, _PIECE_VALUES, self.source.shape[2])
        for index in torch.arange(shard.first, shard.last).split(size):
            yield Piece(self.answer(index, shard.view), self.labels(index, shard.view))

    def accuracy(self, least: float | None) -> float:
        """Return the smallest accuracy of any view, measured on a sample of the rows.

        Args:
            least: lowest accuracy that is accepted; None asks for more than chance.

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
            reached.append(refuse_if_wrong(logits, labels, self.dataset.classes, wanted, "files"))
        return min(reached)


def _rows_within(rows: int, values: int, classes: int) -> int:
    return min(rows, max(64, values // classes))


def rows_of_split(rows: int, dataset: Dataset) -> Int64[np.ndarray, " n"]:
    """Return the row of a file for each training sample.

    Args:
        rows: number of rows of the file: as many as the training split, or as the whole published training set.
        dataset: data set that is split into train and held-out.

    Raises:
        UserError: the file has another number of rows.
    """
    split, whole = len(dataset.train), len(dataset.train) + len(dataset.held_out)
    if rows == whole:
        return dataset.positions.numpy()
    if rows == split:
        return np.arange(split)
    expected = f"{split}, as many as training images"
    expected += f", or {whole}, with the held-out ones" if whole > split else ""
    way_out = "Give the logits of these images, or set `data.held_out` and `data.split_seed` as they were."
    raise UserError("files", f"{rows} rows", expected, way_out)


def columns_by_name(names: tuple[str, ...], count: int, classes: tuple[str, ...]) -> Int64[Tensor, " k"] | None:
    """Return the column of a file for each class; None when the columns are in the order of the data set.

    Args:
        names: names of the columns; none means the names of the data set.
        count: number of columns.
        classes: names of the classes of the data set.

    Raises:
        UserError: the names or the number of the columns do not fit the classes.
    """
    if names and sorted(names) != sorted(classes):
        strangers = sorted(set(names) - set(classes)) or sorted(set(classes) - set(names))
        value = f"{len(names)} names ({', '.join(names[:4])}, …)"
        expected = f"the {len(classes)} of the data set ({', '.join(classes[:4])}, …)"
        hint = f" Only in one of them: {', '.join(strangers[:4])}." if strangers else ""
        raise UserError("classes", value, expected, f"Give the data set's names in the order of the columns.{hint}")
    if count != len(classes):
        expected = f"a column for each of the {len(classes)} classes"
        raise UserError("files", f"{count} columns", expected, "Give logits for the classes of this data set.")
    if not names or names == classes:
        return None
    if len(set(names)) < len(names):
        value = next(name for name in names if names.count(name) > 1)
        expected = "names that differ, since the columns are in another order"
        raise UserError("classes", value, expected, "Put the columns in the data set's order, without `classes`.")
    column = {name: number for number, name in enumerate(names)}
    return torch.tensor([column[name] for name in classes])


def _names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Read the class names from a file, one per line, if a file is given instead of names."""
    if len(given) == 1 and Path(given[0]).is_file():
        return tuple(line for line in Path(given[0]).read_text().splitlines() if line)
    return given


def _open(
    files: Sequence[Path], values: Values, mean: Mean, dataset: Dataset, names: NamesOf | None
) -> ForeignArrays | TinyViTLogits:
    if not files:
        raise UserError("files", "none", "at least one", "Give arrays, or the epoch folders of a TinyViT file set.")
    epochs = [find_epochs(path) for path in files]
    if all(epochs):
        return TinyViTLogits([*chain(*epochs)], len(dataset.classes), names)
    if any(epochs):
        raise UserError("files", [path.name for path in files], "arrays or TinyViT folders", "Import one kind.")
    return ForeignArrays(files, values, mean)


def _kept_of(source: TinyViTLogits, top_k: int | None) -> int | None:
    """Return how many of the classes in the files to keep; None if the files have all classes and all are kept."""
    if top_k is not None and top_k > source.top_k:
        raise UserError("top_k", top_k, f"at most the {source.top_k} classes of the files", "Lower `top_k`.")
    return top_k or (source.top_k if source.top_k < source.shape[2] else None)


def _names_of(config: DataConfig, dataset: Dataset, runtime: Runtime) -> NamesOf | None:
    """Return a function from a number of rows to the file names within `train/`; None without an image folder."""
    kind, _, path = config.name.partition(":")
    if kind != "imagefolder":
        return None

    def names(count: int) -> list[str]:
        size, share, seed = config.kwargs.get("size"), config.held_out, config.split_seed
        root = runtime.data_root.expanduser().resolve()
        decoded = decode_once(Path(path).expanduser().resolve(), size, share, seed, root, runtime.progress)
        stored = decoded.names()
        published: list[int] = decoded.positions.argsort().tolist()
        of_split = count == len(dataset.train) < len(published)
        return list(stored[:count]) if of_split else [stored[row] for row in published]

    return names


def _write(aligned: Aligned, declared: tuple[str, ...], folder: Path, runtime: Runtime) -> Outcome:
    accuracy = aligned.accuracy(runtime.min_teacher_accuracy)
    config, dataset = aligned.config, aligned.dataset
    manifest = make_manifest(config, dataset, declared=declared)
    metrics = write_cache(
        folder, config, manifest, aligned.views, aligned.of_shard, aligned.answer, runtime.progress
    )
    return Outcome(metrics | {"gate/accuracy": accuracy}, dataset.identity())
