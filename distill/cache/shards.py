"""Store the rows of a cache on disk: one file per view and range of samples, each written whole or not at all.

A shard is written under a temporary name, flushed to the disk and renamed; a file with its sha256 (`Written`)
follows. A shard without it is made again, so writing can go on after a kill at any moment.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from distill.cache.encoding import Encoding
from distill.config import CacheConfig
from distill.errors import UserError
from distill.store.record import STAMPS
from distill.system import ranks
from distill.system.files import replace_file, sha256, write_json
from distill.system.reading import map_array, most_open_maps, read_json

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

FOLDER = "logits"
SHARDS = "shards.json"
"""File that maps the name of each shard to its `Written`; it is written after all shards."""
MOST_ROWS = 1 << 16
"""Largest number of rows of a shard."""
_BYTES = 64 << 20
"""Largest shard in bytes. Both limits bound what a kill can cost, and what is hashed at a time."""
# With fewer, a call costs more than its work. With more, torch would share the work among threads, which then wait
# for the teacher's threads.
_ENCODED = 1 << 15
"""Number of logits that are encoded at a time."""
_AHEAD = 16
"""Largest number of pieces that wait to be encoded or written."""


class Shard(NamedTuple):
    """Name a range of samples of one view, which one file holds."""

    view: int
    first: int
    last: int
    """Index one past the last sample."""

    @property
    def name(self) -> str:
        """Return the path of the shard within the cache."""
        return f"{FOLDER}/view{self.view:04d}-{self.first:09d}.npy"


@dataclass(frozen=True)
class Layout:
    """Divide a cache into shards: say how many there are, and which rows each holds."""

    samples: int
    views: int
    encoding: Encoding

    @property
    def rows_per_shard(self) -> int:
        """Return the number of samples in each shard of a view; the last shard may have fewer."""
        # A multiple of 2048, so that a teacher sees the same batches in any order of the shards.
        fitting = _BYTES // self.encoding.bytes_per_row // 2048 * 2048
        return min(MOST_ROWS, max(2048, fitting))

    @property
    def shards_per_view(self) -> int:
        """Return the number of files that hold one view."""
        return -(-self.samples // self.rows_per_shard)

    def shards(self) -> Iterator[Shard]:
        """Yield all shards, view by view."""
        size = self.rows_per_shard
        for view in range(self.views):
            for first in range(0, self.samples, size):
                yield Shard(view, first, min(first + size, self.samples))

    @property
    def values(self) -> int:
        """Return the number of logits of all rows, with every class."""
        return self.samples * self.views * self.encoding.classes

    @property
    def bytes(self) -> int:
        """Return the bytes of all rows."""
        return self.samples * self.views * self.encoding.bytes_per_row


def layout_of(config: CacheConfig, samples: int, classes: int) -> Layout:
    """Make the layout of a cache, for writing or for reading."""
    return Layout(samples, config.views, Encoding(classes, config.dtype, config.top_k))


class Piece(NamedTuple):
    """Hold the logits that a teacher gives for consecutive samples of one view, and their labels."""

    logits: Float32[Tensor, "n k"]
    """Logits, on the CPU."""
    labels: Int64[Tensor, "n"]
    """The right classes; for mixed views the class with the largest share."""


_Encoded = tuple[np.ndarray, float, int]
"""Rows as they are stored, their rounding error and their number of right answers."""


class Written(NamedTuple):
    """Hold what is noted of a written shard: its sha256, rounding error and number of right answers."""

    sha256: str
    rounding_error: float
    correct: int


def write_shards(
    folder: Path,
    layout: Layout,
    answers: Callable[[Shard], Iterable[Piece]],
    advance: Callable[[int], object] = lambda rows: None,
    still_right: Callable[[Shard], bool] = lambda shard: True,
) -> dict[str, float]:
    """Write the shards that do not exist yet.

    Under torchrun all ranks call this function, and each writes its part of the shards.

    Args:
        folder: folder of the cache; earlier shards that are whole are kept.
        layout: shards of the cache.
        answers: function from a shard to the teacher's answers to its samples, in order.
        advance: function that is told the number of rows that are done, for a progress bar.
        still_right: function that says whether an earlier shard still holds what the teacher answers.

    Returns:
        Measures over all shards: `transfer/accuracy` and `rounding_error`.

    Raises:
        UserError: a logit is not finite or does not fit the dtype.
    """
    ranks.on_first(lambda: _prepare(folder))
    earlier = _earlier(folder)
    shards: dict[str, Written] = {}
    # One thread encodes, hashes and flushes, in the order of the tasks, while the teacher answers.
    with ThreadPoolExecutor(1) as writer:
        waiting: deque[Future[Any]] = deque()
        for shard in islice(layout.shards(), ranks.rank(), None, ranks.world()):
            known = earlier.get(shard.name)
            if known and _is_whole(folder / shard.name, known) and still_right(shard):
                shards[shard.name] = known
                advance(shard.last - shard.first)
                continue
            parts: list[Future[_Encoded]] = []
            for piece in _gathered(answers(shard), max(1, _ENCODED // layout.encoding.classes)):
                parts.append(writer.submit(_encode, layout.encoding, piece))
                waiting.append(parts[-1])
                advance(len(piece.labels))
                while len(waiting) > _AHEAD:
                    waiting.popleft().result()
            waiting.append(writer.submit(_store, folder, shard, parts, shards))
        for task in waiting:
            task.result()
    shards = {name: written for part in ranks.gather(shards) for name, written in part.items()}
    ranks.on_first(lambda: _finish(folder, shards))
    total = max(1, layout.samples * layout.views)
    return {
        "transfer/accuracy": sum(written.correct for written in shards.values()) / total,
        "rounding_error": max((written.rounding_error for written in shards.values()), default=0.0),
    }


def _prepare(folder: Path) -> None:
    for name in (FOLDER, STAMPS):
        (folder / name).mkdir(exist_ok=True)
    for partial in folder.rglob("*.partial"):
        partial.unlink()


def _finish(folder: Path, shards: dict[str, Written]) -> None:
    write_json(folder / SHARDS, {name: written._asdict() for name, written in sorted(shards.items())})
    shutil.rmtree(folder / STAMPS)


def _encode(encoding: Encoding, piece: Piece) -> _Encoded:
    rows, error = encoding.encode(piece.logits)
    # numpy's argmax, since torch's takes ten times as long on a CPU.
    correct = int((piece.logits.numpy().argmax(1) == piece.labels.numpy()).sum())
    return rows, error, correct


def _gathered(pieces: Iterable[Piece], rows: int) -> Iterator[Piece]:
    """Split or join a teacher's answers into pieces of about `rows` rows, and no more."""
    waiting: list[Piece] = []
    for answer in pieces:
        for piece in map(Piece, answer.logits.split(rows), answer.labels.split(rows)):
            if waiting and sum(len(each.labels) for each in waiting) + len(piece.labels) > rows:
                yield _joined(waiting)
                waiting = []
            waiting.append(piece)
    if waiting:
        yield _joined(waiting)


def _joined(pieces: list[Piece]) -> Piece:
    return pieces[0] if len(pieces) == 1 else Piece(*map(torch.cat, zip(*pieces, strict=True)))


def _store(folder: Path, shard: Shard, parts: list[Future[_Encoded]], shards: dict[str, Written]) -> None:
    pieces, errors, correct = zip(*(part.result() for part in parts), strict=True)
    rows = np.concatenate(pieces)
    if len(rows) != shard.last - shard.first:
        raise ValueError(f"{len(rows)} answers for the {shard.last - shard.first} samples of {shard.name}")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(rows))
    data = rows.reshape(len(rows), -1).view(np.uint8).data
    digest = hashlib.sha256(header.getvalue())
    digest.update(data)
    replace_file(folder / shard.name, header.getvalue(), data)
    written = Written(digest.hexdigest(), max(errors), sum(correct))
    write_json(folder / STAMPS / f"{Path(shard.name).stem}.json", {shard.name: written._asdict()})
    shards[shard.name] = written


def _earlier(folder: Path) -> dict[str, Written]:
    """Read what an interrupted run noted about the shards that it wrote."""
    shards: dict[str, Written] = {}
    for path in [*(folder / STAMPS).glob("*.json"), folder / SHARDS]:
        with suppress(OSError, UserError, AttributeError, TypeError):
            shards |= {name: Written(**fields) for name, fields in read_json(path).items()}
    return shards


def _is_whole(path: Path, written: Written) -> bool:
    return path.is_file() and sha256(path) == written.sha256


class ShardReader:
    """Read the rows of a cache in any order; the shards that were used last are memory-mapped.

    Args:
        open_file: function from the name of a shard to its path, called whenever the shard is mapped; it may check
            the file.
        layout: shards of the cache.
    """

    def __init__(self, open_file: Callable[[str], Path], layout: Layout):
        self.layout = layout
        shards = [*layout.shards()]

        # A function without `self`, so that a reader that nobody needs frees its maps at once.
        @lru_cache(most_open_maps())
        def shard(number: int) -> np.ndarray:
            return _map_rows(open_file(shards[number].name), layout, shards[number])

        self._shard = shard

    def view(self, view: int) -> np.ndarray:
        """Read all rows of a view into memory."""
        per_view = self.layout.shards_per_view
        return np.concatenate([self._shard(view * per_view + part) for part in range(per_view)])

    def rows(self, index: Int64[np.ndarray, "b"], view: int) -> np.ndarray:
        """Return the rows of these samples in one view.

        Raises:
            IndexError: there is no such sample.
        """
        per_view, size = self.layout.shards_per_view, self.layout.rows_per_shard
        order = np.argsort(index)
        part, row = np.divmod(index[order], size)
        if len(index) and not 0 <= index[order[0]] <= index[order[-1]] < self.layout.samples:
            raise IndexError(f"sample {index.min()} to {index.max()} of {self.layout.samples}")
        rows = np.empty(len(index), self.layout.encoding.row)
        first = 0
        # One call per shard: a batch of 128 reads three rows from each of the 40 shards of ImageNet.
        for number, last in enumerate(np.searchsorted(part, np.arange(1, per_view + 1)).tolist()):
            if last > first:
                shard = self._shard(view * per_view + number)
                # The indices are checked above; mode "raise" would copy every row twice.
                shard.take(row[first:last], axis=0, out=rows[first:last], mode="clip")
                first = last
        return rows.take(np.argsort(order), axis=0)


def _map_rows(path: Path, layout: Layout, shard: Shard) -> np.ndarray:
    """Map a shard, whose rows are read in any order."""
    rows = map_shard(path, layout, shard)
    mapped = rows.base
    small = len(rows) and rows[:1].nbytes < mmap.PAGESIZE
    if small and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        # A row is a hundredth of what the system would read around it.
        mapped.madvise(mmap.MADV_RANDOM)
    return rows.view(np.ndarray)  # the indexing of a memmap is slow Python


def map_shard(path: Path, layout: Layout, shard: Shard) -> np.memmap[Any, Any]:
    """Map the rows of a shard into memory.

    Raises:
        UserError: the file does not hold these rows.
    """
    row = layout.encoding.row
    return map_array(path, row.base, (shard.last - shard.first, *row.shape))
