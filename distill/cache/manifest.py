"""Describe in `manifest.json` which weights, preprocessing, images and views a cache belongs to, and check it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from distill.config import (
    AdoptedConfig,
    AugmentConfig,
    CacheConfig,
    Count,
    EnsembleConfig,
    ImportConfig,
    TeacherConfig,
)
from distill.config.base import invalid
from distill.data.checksum import content_digest
from distill.data.sets.streams.images import StreamedImages
from distill.errors import UserError
from distill.system.reading import read_json

if TYPE_CHECKING:
    from distill.data.sets.dataset import Dataset

MANIFEST = "manifest.json"
FORMAT = 1
_DIGESTED_BYTES = 4 << 30
"""Largest set whose images are digested, in bytes; larger ones take too long to read again."""
_DECODED_BYTES = 256 << 20
"""Largest set, in bytes, whose images are decoded to be digested."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TeacherIdentity(_Part):
    """Identify the network that answered by its weights, and say how images were prepared for it."""

    title: str
    key: str
    weights: str
    """sha256 of the weights file."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int, int]
    interpolation: str
    crop: float = 1.0


class DataIdentity(_Part):
    """Identify the images that a cache belongs to, and their order."""

    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    samples: Count
    fingerprint: str
    """sha256 over all splits: images, labels and class names."""
    order: str | None
    """Digest of the transfer set's images and labels, in order; None for very large sets, as `content`."""
    content: str | None
    """Digest of the transfer set's images and labels, in any order."""


def _program(fields: dict[str, Any]) -> dict[str, Any]:
    """Fill in the default of every field that a manifest's description of the augmentation leaves out."""
    return AugmentConfig.model_validate(fields).model_dump(mode="json")


class ViewIdentity(_Part):
    """Identify the views whose logits a cache holds: by program, number and seed."""

    augment: Annotated[dict[str, Any], AfterValidator(_program)]
    views: int
    seed: int


class StorageIdentity(_Part):
    """Describe the form in which the rows of a cache are stored."""

    dtype: str
    top_k: int | None
    rows_per_shard: int


class Manifest(_Part):
    """List the facts that must match before a cached row counts as the teacher's answer to a student's view."""

    format: int = FORMAT
    teachers: tuple[TeacherIdentity, ...]
    """Identity of the teacher, or of each member of an ensemble; empty for imported logits."""
    source: dict[str, Any]
    """The way in which the teachers make one answer: the mean of an ensemble, or the files of an import."""
    data: DataIdentity
    views: ViewIdentity
    storage: StorageIdentity
    libraries: dict[str, str]
    """Versions of the libraries that can change a pixel (`libraries.PIXELS`)."""
    declared: tuple[str, ...] = ()
    """Names of the fields that a user declared and no check has proven."""


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in a file.

    Raises:
        UserError: the file is no manifest that this version can read.
    """
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        raise invalid(error, f"{path}.", "Delete its folder, and make the cache again.") from error


def data_identity(dataset: Dataset) -> DataIdentity:
    """Identify the transfer set (the training split); this reads all of its images once."""
    train = dataset.train
    images = train.images
    order = content = None
    if images.numel() <= (_DECODED_BYTES if isinstance(images, StreamedImages) else _DIGESTED_BYTES):
        whole = train.pixels(torch.arange(len(train))) if isinstance(images, StreamedImages) else images
        order, content = content_digest(whole, train.labels)
    return DataIdentity(
        name=dataset.name,
        classes=dataset.classes,
        samples=len(train),
        fingerprint=dataset.fingerprint,
        order=order,
        content=content,
    )


def view_identity(config: CacheConfig) -> ViewIdentity:
    """Identify the views of a cache by their program, number and seed."""
    return ViewIdentity(augment=config.augment.model_dump(mode="json"), views=config.views, seed=config.view_seed)


def source_of(config: CacheConfig) -> dict[str, Any]:
    """Say how the teachers of a cache make one answer: one network, a mean of several, or files from elsewhere."""
    match config.teacher:
        case TeacherConfig() | AdoptedConfig():
            return {"kind": "teacher"}
        case EnsembleConfig(mean=mean):
            return {"kind": "ensemble", "mean": mean}
        case ImportConfig() as imported:
            return {"kind": "import", **imported.model_dump(mode="json", exclude={"stage"})}


def check_data(cached: DataIdentity, dataset: Dataset, way_out: str) -> None:
    """Refuse a data set whose images are not those that the teacher saw.

    Args:
        cached: identity of the images that the teacher saw.
        dataset: data set whose training split a student would see.
        way_out: advice for the message.

    Raises:
        UserError: classes, number of samples, content or order differ.
    """
    if cached.classes != dataset.classes:
        in_order = ", in this order" if sorted(cached.classes) == sorted(dataset.classes) else ""
        expected = f"the cache's {_classes(cached.classes)}{in_order}"
        raise UserError("data.classes", _classes(dataset.classes), expected, way_out)
    if cached.samples != len(dataset.train):
        expected = f"the cache's {cached.samples} samples"
        raise UserError("data", f"{dataset.name} with {len(dataset.train)} samples", expected, way_out)
    if cached.fingerprint == dataset.fingerprint:
        return
    here = data_identity(dataset)
    if cached.order is None or here.order is None or cached.content is None or here.content is None:
        expected = f"the cache's, {cached.fingerprint[:16]}"
        raise UserError("data.fingerprint", dataset.fingerprint[:16], expected, way_out)
    if here.content != cached.content:
        raise UserError("data.content", here.content[:16], f"the cache's, {cached.content[:16]}", way_out)
    if here.order != cached.order:
        expected = f"the cache's, {cached.order[:16]} (the same samples in another order)"
        raise UserError("data.order", here.order[:16], expected, way_out)


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return f"{len(names)} classes ({shown}{', …' if len(names) > 4 else ''})"
