"""Read the top-k probabilities that TinyViT saves, and turn them into logits of all classes.

Each epoch has a folder `logits_top{k}_epoch{e}` with `rank{r}-keys.txt` and `rank{r}-values.bin`. A record is an
int32 seed of the view, k int16 class numbers and k float16 probabilities, largest first. A key is the position of
an image in torchvision's ImageFolder, or a name where the data set has names. Source: microsoft/Cream,
TinyViT/save_logits.py and TinyViT/data/augmentation/{dataset_wrapper,manager}.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill.cache.encoding import spread_tail
from distill.cache.foreign import SUM_TOLERANCE, log_floor
from distill.cache.row_names import rows_of_keys
from distill.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

_EPOCH = re.compile(r"logits_top(\d+)_epoch(\d+)")
_RANK = re.compile(r"rank(\d+)-(keys\.txt|values\.bin)")
_POSITION = re.compile(r"0|[1-9][0-9]{0,17}")  # without leading zeros
_INT16_CLASSES = 1 << 15
_BELOW_KEPT = 2.0**-10
"""Distance of a missing logit below the smallest kept logit, so that a top-k finds the kept logits again."""

NamesOf = Callable[[int], Sequence[str]]
"""A function from the number of rows to the name of each row."""


def record_type(top_k: int) -> np.dtype[Any]:
    """Return the numpy type of TinyViT's entry for one image: a seed, k class numbers and k probabilities."""
    return np.dtype([("seed", "<i4"), ("ids", "<i2", (top_k,)), ("probabilities", "<f2", (top_k,))])


def find_epochs(path: Path) -> list[Path]:
    """Find the epoch folders at a path: the path itself or folders directly inside, in any order; else none."""
    candidates = [path, *path.iterdir()] if path.is_dir() else []
    epochs = [folder for folder in candidates if folder.is_dir() and _EPOCH.fullmatch(folder.resolve().name)]
    return [path] if path in epochs else epochs


@dataclass(frozen=True)
class TopKEpoch:
    """Read the files that TinyViT wrote in one epoch."""

    folder: Path
    top_k: int
    """Number of classes in a record."""
    number: int
    """Number of the epoch."""
    counts: tuple[int, ...]
    """Number of records of each rank."""

    @classmethod
    def open(cls, folder: Path) -> TopKEpoch:
        """Open the epoch in a folder.

        Raises:
            UserError: the folder has another name, or a file of a rank is missing or holds a broken record.
        """
        match = _EPOCH.fullmatch(folder.resolve().name)
        if match is None:
            raise _broken(folder, "no folder of an epoch", "the name logits_top<k>_epoch<e>")
        top_k, number = map(int, match.groups())
        present = {path.name for path in folder.iterdir() if _RANK.fullmatch(path.name)}
        ranks = len({name.partition("-")[0] for name in present})
        wanted = {f"rank{rank}-{part}" for rank in range(max(1, ranks)) for part in ("keys.txt", "values.bin")}
        if missing := sorted(wanted - present):
            raise _broken(folder, f"no {missing[0]}", "keys and values of every rank, from 0")
        if not top_k:
            raise _broken(folder, "k = 0", "a k above 0")
        size = record_type(top_k).itemsize
        counts = []
        for rank in range(ranks):
            length = (folder / f"rank{rank}-values.bin").stat().st_size
            if length % size:
                expected = f"a whole number of records of {size} bytes (4 + 4 × {top_k})"
                raise _broken(folder, f"rank{rank}-values.bin of {length} bytes", expected)
            counts.append(length // size)
        return cls(folder, top_k, number, tuple(counts))

    @property
    def files(self) -> tuple[Path, ...]:
        """Return, for each rank in turn, the path of its list of images and the path of their probabilities."""
        ranks = range(len(self.counts))
        return tuple(self.folder / f"rank{rank}-{part}" for rank in ranks for part in ("keys.txt", "values.bin"))

    def keys(self) -> list[str]:
        """Read the names (or indices) of the images whose probabilities were saved, from each rank's file in turn.

        Raises:
            UserError: a rank has more or fewer keys than records.
        """
        keys: list[str] = []
        for rank, count in enumerate(self.counts):
            name = f"rank{rank}-keys.txt"
            try:
                lines = (self.folder / name).read_text(encoding="utf-8").removesuffix("\n").split("\n")
            except UnicodeDecodeError as error:
                raise _broken(self.folder, f"{name} with bytes that are no text", "one key per line") from error
            lines = [] if lines == [""] else lines
            if len(lines) != count:
                raise _broken(self.folder, f"{len(lines)} keys in {name}", f"one for each of {count} records")
            keys += map(str.strip, lines)
        return keys

    def records(self) -> list[np.ndarray]:
        """Memory-map each rank's file of saved probabilities: one array per rank, with one entry per image."""
        dtype = record_type(self.top_k)
        return [
            np.memmap(self.folder / f"rank{rank}-values.bin", dtype, "r") if count else np.empty(0, dtype)
            for rank, count in enumerate(self.counts)
        ]


def _broken(folder: Path, value: str, expected: str) -> UserError:
    return UserError("files", f"{folder.name}: {value}", expected, "Copy or write this epoch again.")


class TinyViTLogits:
    """Read the logits of a file set with one epoch folder per view, in the order of the images.

    Keys that are positions number the rows. The distributed sampler pads its list, so several ranks may hold a
    record of one image, with other seeds. The record of the lowest rank counts, and the others are dropped.

    Attributes:
        shape: rows, views and classes.
        top_k: number of classes in a record.
        files: paths of all files, in order.
        named: whether keys are names, so that the files themselves say which image a row belongs to.

    Args:
        folders: folders of the epochs; views are in the order of the epoch numbers.
        classes: number of classes K.
        names: function that gives the names of the rows, called only when the keys are no positions. A key is a
            name in one of the forms `_KEYS_OF_NAMES`.

    Raises:
        UserError: files are missing, truncated or contradict each other, or a key has no row.
    """

    def __init__(self, folders: Sequence[Path], classes: int, names: NamesOf | None = None):
        if classes > _INT16_CLASSES:
            expected = f"at most {_INT16_CLASSES} classes, since a record numbers them in int16"
            raise UserError("files", f"{classes} classes", expected, "Give dense logits as an array.")
        self._epochs = sorted(map(TopKEpoch.open, folders), key=lambda epoch: epoch.number)
        self.top_k = self._epochs[0].top_k
        distinct = {(self.top_k, epoch.number) for epoch in self._epochs}
        if distinct != {(epoch.top_k, epoch.number) for epoch in self._epochs} or len(distinct) < len(self._epochs):
            folder_names = ", ".join(epoch.folder.name for epoch in self._epochs[:4])
            raise UserError("files", folder_names, "epochs of one k, each once", "Leave out the others.")
        if self.top_k > classes:
            raise UserError("files", f"top{self.top_k}", f"at most the {classes} classes", "Check the data set.")
        orders = [_order(epoch, epoch.keys(), names) for epoch in self._epochs]
        self._records = [records for records, _ in orders]
        self.named = all(named for _, named in orders)
        for epoch, records in zip(self._epochs, self._records, strict=True):
            if len(records) != len(self._records[0]):
                expected = f"the {len(self._records[0])} of {self._epochs[0].folder.name}"
                raise _broken(epoch.folder, f"{len(records)} images", expected)
        self.shape = (len(self._records[0]), len(self._epochs), classes)
        self.files = tuple(path for epoch in self._epochs for path in epoch.files)
        self._mapped: tuple[int, list[np.ndarray]] | None = None

    def rows(self, index: Int64[np.ndarray, " b"], view: int) -> Float32[Tensor, "b k"]:
        """Return these images' logits in one view; classes outside the top k share the rest of the probability.

        Each missing logit stays below the smallest stored logit, so a top-k of a row finds the stored logits.

        Raises:
            UserError: class numbers or probabilities are impossible.
        """
        records = self._read(index, view)
        ids, stored = records["ids"].astype(np.int64), records["probabilities"].astype(np.float64)
        self._check(ids, stored, index, view)
        floor = log_floor("float16")
        logits = np.log(stored, out=np.full_like(stored, floor), where=stored > 0)
        # Rounding to float16 can lift the sum of a row above 1. The others then get the smallest mass that float16
        # could not show, 2⁻²⁵, instead of a negative one.
        tail = np.log(np.maximum(1 - stored.sum(1), math.exp(floor)))
        kept = torch.from_numpy(logits).float()
        return spread_tail(torch.from_numpy(ids), kept, torch.from_numpy(tail).float(), self.shape[2], _BELOW_KEPT)

    def _read(self, index: Int64[np.ndarray, " b"], view: int) -> np.ndarray:
        if self._mapped is None or self._mapped[0] != view:
            # Only one epoch is mapped at a time: a mapping holds a file open, and there may be hundreds of epochs.
            self._mapped = (view, self._epochs[view].records())
        ends = np.cumsum(self._epochs[view].counts)
        wanted = self._records[view][index]
        rank_of = np.searchsorted(ends, wanted, side="right")
        records = np.empty(len(index), record_type(self.top_k))
        for rank, stored in enumerate(self._mapped[1]):
            mine = rank_of == rank
            records[mine] = stored[wanted[mine] - (ends[rank] - len(stored))]
        return records

    def _check(self, ids: np.ndarray, stored: np.ndarray, index: np.ndarray, view: int) -> None:
        problems = {
            "a negative class number (int16 cannot hold one above 32767)": (ids < 0).any(1),
            f"a class number above {self.shape[2] - 1}": (ids >= self.shape[2]).any(1),
            "a class twice": (np.diff(np.sort(ids, axis=1), axis=1) == 0).any(1),
            "a probability outside 0 to 1": ~((stored >= 0) & (stored <= 1)).all(1),
            "probabilities whose sum is above 1": stored.sum(1) > 1 + SUM_TOLERANCE,
            "no probability above 0": (stored == 0).all(1),
        }
        for problem, where in problems.items():
            if where.any():
                expected = f"{self.top_k} of {self.shape[2]} classes with their probabilities"
                raise _broken(self._epochs[view].folder, f"{problem}, row {int(index[where][0])}", expected)


def _order(epoch: TopKEpoch, keys: list[str], names: NamesOf | None) -> tuple[Int64[np.ndarray, " n"], bool]:
    """Return the position of each image's entry in an epoch's files, and whether they give names, not indices."""
    distinct = len(set(keys))
    if not distinct:
        raise _broken(epoch.folder, "no records", "one for each image")
    named = not all(map(_POSITION.fullmatch, keys))
    if not named:
        rows = np.array(keys).astype(np.int64)
        if rows.max() >= distinct:
            value = f"{distinct} images, with positions up to {rows.max()}"
            raise _broken(epoch.folder, value, f"every position from 0 to {distinct - 1}")
    elif names is None:
        expected = "positions, since only the files of an image folder have names"
        raise _broken(epoch.folder, f"key {keys[0]!r}", expected)
    else:
        known = names(distinct)
        rows = rows_of_keys(keys, known)
        if isinstance(rows, str):
            expected = f"names of the {len(known)} training images, such as {known[0]!r}"
            raise _broken(epoch.folder, f"key {rows!r}", expected)
        if distinct != rows.max() + 1:
            raise _broken(epoch.folder, f"keys of {distinct} images", f"a key for each of {rows.max() + 1}")
    order = np.argsort(rows, kind="stable")  # a stable sort keeps ranks in order
    again = np.flatnonzero(np.diff(rows[order]) == 0) + 1
    if len(again):
        _check_padding(epoch, keys, order, again)
    return np.delete(order, again), named


def _check_padding(epoch: TopKEpoch, keys: list[str], order: np.ndarray, again: np.ndarray) -> None:
    """Refuse an image that occurs twice, unless TinyViT's sampler repeated it to fill up its last batch."""
    # The sampler pads its list to a multiple of the number of ranks, or of twice this number, so that several ranks
    # may hold one key.
    ranks = len(epoch.counts)
    rank_of = np.repeat(np.arange(ranks), epoch.counts)
    key = keys[int(order[again[0]])]
    if (rank_of[order[again]] == rank_of[order[again - 1]]).any():
        raise _broken(epoch.folder, f"a key twice in one rank, perhaps {key!r}", "every key once")
    if len(again) > 2 * ranks - 1:
        expected = f"at most the {2 * ranks - 1} that pad a set for {ranks} ranks"
        raise _broken(epoch.folder, f"{len(again)} keys in several ranks, such as {key!r}", expected)
    records = np.concatenate(epoch.records())
    for one, other in zip(records[order[again - 1]], records[order[again]], strict=True):
        # Another seed means another view, with other answers; but one seed has one answer.
        if one["seed"] == other["seed"] and one.tobytes() != other.tobytes():
            raise _broken(epoch.folder, "two answers to one key and seed", "one")
