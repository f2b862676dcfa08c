"""Write a cache of a teacher's answers or of imported logits, with a sample of views by which it can be checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.cache.encoding import distribution_errors
from distill.cache.manifest import (
    MANIFEST,
    Manifest,
    StorageIdentity,
    TeacherIdentity,
    data_identity,
    source_of,
    view_identity,
)
from distill.cache.proof import by_view, choose, prove
from distill.cache.shards import FOLDER as LOGITS
from distill.cache.shards import Layout, Piece, Shard, ShardReader, layout_of, map_shard, write_shards
from distill.config import CacheConfig
from distill.errors import UserError
from distill.system import ranks
from distill.system.libraries import PIXELS, versions
from distill.system.progress import bar as progress_bar
from distill.system.runtime import free_bytes

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64
    from torch import Tensor

    from distill.data.sets.dataset import Dataset
    from distill.data.views.views import Views


Answer = Callable[["Int64[Tensor, 'b']", int], "Float32[Tensor, 'b k']"]
"""A function from (index, view) to logits on the CPU."""
_REVISITED = 16
"""Number of rows of each shard of an interrupted run for which the teacher is asked again."""


def make_manifest(
    config: CacheConfig,
    dataset: Dataset,
    teachers: tuple[TeacherIdentity, ...] = (),
    declared: tuple[str, ...] = (),
) -> Manifest:
    """Make the manifest of a cache that is about to be written."""
    return Manifest(
        teachers=teachers,
        source=source_of(config),
        data=data_identity(dataset),
        views=view_identity(config),
        storage=StorageIdentity(
            dtype=config.dtype,
            top_k=config.top_k,
            rows_per_shard=layout_of(config, len(dataset.train), len(dataset.classes)).rows_per_shard,
        ),
        libraries=versions(PIXELS),
        declared=declared,
    )


def write_cache(
    folder: Path,
    config: CacheConfig,
    manifest: Manifest,
    views: Views,
    answers: Callable[[Shard], Iterable[Piece]],
    answer: Answer,
    progress: bool,
) -> dict[str, float]:
    """Fill a folder with a cache, or go on where an earlier call was interrupted.

    Under torchrun all ranks call this function, which writes the shards of this rank; the first rank does the rest.

    Args:
        folder: folder of a draft.
        config: config of the cache.
        manifest: manifest of the cache; the rows of a folder that holds another manifest are dropped.
        views: views of the transfer set, for the proof.
        answers: function from a shard to the logits of its samples, in order.
        answer: function from (index, view) to logits, for the proof.
        progress: whether to show a bar.

    Returns:
        Accuracy on the transfer set, bytes per view, and the errors of the stored form.

    Raises:
        UserError: a logit is not finite or does not fit the dtype, rows differ when they are made again, or the
            disk is too small.
    """
    layout = layout_of(config, manifest.data.samples, len(manifest.data.classes))
    ranks.on_first(lambda: _start(folder, manifest))
    ranks.on_first(lambda: _refuse_small_disk(folder, layout))

    def still_right(shard: Shard) -> bool:
        # The manifest cannot hold the code of a view program, so equal manifests do not prove equal answers.
        index = torch.linspace(shard.first, shard.last - 1, min(_REVISITED, shard.last - shard.first)).long()
        stored = map_shard(folder / shard.name, layout, shard)[index.numpy() - shard.first]
        return layout.encoding.agrees(answer(index, shard.view), stored)

    total = manifest.data.samples * config.views
    with progress_bar(total=total, unit="view", desc="cache", delay=2, disable=None if progress else True) as bar:
        metrics = write_shards(folder, layout, answers, bar.update, still_right)
    measured = ranks.on_first(lambda: _prove(folder, config, layout, views, answer))
    return metrics | measured | {"bytes_per_view": float(layout.encoding.bytes_per_row)}


def _prove(folder: Path, config: CacheConfig, layout: Layout, views: Views, answer: Answer) -> dict[str, float]:
    """Make a sample of views and logits again, store checksums and exact logits, and return rounding errors."""
    index, view = choose(layout.samples, config.views, layout.encoding.classes, config.view_seed)
    proof = prove(index, view, views, answer)
    reader = ShardReader(lambda name: folder / name, layout)
    stored = np.concatenate([reader.rows(proof.index[rows].numpy(), view) for view, rows in by_view(proof.view)])
    encoding = layout.encoding
    if not encoding.agrees(proof.logits, stored):
        shutil.rmtree(folder / LOGITS)
        value = f"rows that differ by {encoding.rounding_error(proof.logits, stored):.3g} when they are made again"
        expected = "a teacher and a view program that give one answer"
        way_out = "Look for randomness that no seed reaches, or run it again; the rows written so far are dropped."
        raise UserError("cache", value, expected, way_out)
    proof.save(folder)
    return distribution_errors(proof.logits, encoding.decode(stored))


def _start(folder: Path, manifest: Manifest) -> None:
    path, text = folder / MANIFEST, manifest.model_dump_json(indent=1)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    # Rows of other weights or other images must not be kept.
    shutil.rmtree(folder)
    folder.mkdir()
    path.write_text(text, encoding="utf-8")


def _refuse_small_disk(folder: Path, layout: Layout) -> None:
    written = sum(path.stat().st_size for path in folder.rglob("*.npy"))
    needed, free = layout.bytes - written, free_bytes(folder)
    if needed > free:
        expected = f"{needed / 1e9:.3g} GB for {layout.views} view(s) of {layout.samples} samples"
        way_out = "Set `store` to a larger disk, lower `views`, or keep fewer logits with `top_k`."
        raise UserError("store", f"{free / 1e9:.3g} GB free", expected, way_out)
