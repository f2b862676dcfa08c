"""Measure and draw penultimate activations around the last-layer weight vectors (templates) of three classes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from distill.config import PenultimateProbe
from distill.data.sets.dataset import Dataset
from distill.errors import UserError
from distill.metrics import geometry
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.models.last_layer import templates, with_one
from distill.probes.outputs import activations_of
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import training_data
from distill.training.tracking import summary_writer

if TYPE_CHECKING:
    from jaxtyping import Float32, Int64, UInt8
    from torch import Tensor

_TOPIC = Topic("Penultimate activations")
MEASURES = tuple(
    Measure(f"{name}_{split}", f"{name}, {words}", topic=_TOPIC)
    for name in ("compactness", "scatter", "imbalance")
    for split, words in (("train", "train"), ("held_out", "held out"))
)
# TensorBoard takes a sheet of sprites of at most 8192 × 8192 pixels.
_SPRITE_SIDE = 64
"""Largest side of an image in the projector, in pixels; larger images are shrunk."""


def probe_penultimate(config: PenultimateProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure where images of three classes lie on the plane through their templates (Müller et al. 2019, Fig. 1).

    Images are un-augmented. They are the first `per_class` of each class in the training and in the held-out split,
    or as many as there are. The test split replaces the held-out one if no image of one of the classes is held out.

    Activations, class names and images are written to `log` for TensorBoard's Embedding Projector.

    Returns:
        Values, each for `train` and `held_out`, of functions in `metrics.geometry`: `compactness_*` (mean over the
        classes), `scatter_*` in the whole space, `imbalance_*`, `irregularity_*` and `class_distance_*`.

        Curves: `compactness_by_class_*`; the picture as `plane_{train,held_out}_{x,y,class}`, with classes 0, 1, 2
        in the order of the triple, and `plane_template_{x,y}`; and `plane_classes`, the triple itself.

        Names of the second triple end in `_2`, of the third in `_3`.

    Raises:
        UserError: the data set lacks one of the classes or its images, or is not the one that the network was
            trained on, or the network does not end in a linear layer.
    """
    dataset = training_data(network, runtime)
    _check(config, dataset)
    shown = _shown(config, dataset)
    head, activations = activations_of(network, {name: split.images for name, split in shown.items()}, runtime)
    measured = Measured({}, {})
    for place, triple in enumerate(config.triples, start=1):
        ids = torch.tensor(triple)
        of_triple = _on_plane(templates(head)[ids], ids, activations, shown)
        measured = measured.joined(_renamed(of_triple, f"_{place}" if place > 1 else ""))
    _write_projector(log / network.path.name, dataset, activations, shown)
    return measured


class _Shown(NamedTuple):
    """Hold the images of the classes that are shown, class by class."""

    origin: str
    """Name, as people read it, of the split that the images come from."""
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]


def _check(config: PenultimateProbe, dataset: Dataset) -> None:
    for triple in config.triples:
        if max(triple) >= dataset.num_classes or len(set(triple)) < 3:
            expected = f"three classes of the {dataset.num_classes} of {dataset.name}"
            raise UserError("probe.triples", triple, expected, "Choose others.")


def _shown(config: PenultimateProbe, dataset: Dataset) -> dict[str, _Shown]:
    """Choose training and held-out images of every class that occurs in the config's triples of classes."""
    classes = sorted({cls for triple in config.triples for cls in triple})
    complete = torch.isin(torch.tensor(classes), dataset.held_out.labels).all()
    unseen = ("held-out", dataset.held_out) if complete else ("test", dataset.test)
    shown = {}
    for name, (origin, split) in {"train": ("train", dataset.train), "held_out": unseen}.items():
        rows = [(split.labels == cls).nonzero().flatten()[: config.per_class] for cls in classes]
        for cls, of_class in zip(classes, rows, strict=True):
            if not len(of_class):
                expected = f"an image of class {dataset.classes[cls]!r} in each of its splits"
                raise UserError("probe.triples", cls, expected, "Choose another class.")
        chosen = torch.cat(rows)
        shown[name] = _Shown(origin, split.pixels(chosen), split.labels[chosen])
    return shown


def _on_plane(
    corners: Float32[Tensor, "3 d+1"],
    ids: Int64[Tensor, "3"],
    activations: dict[str, Float32[Tensor, "n d"]],
    shown: dict[str, _Shown],
) -> Measured:
    """Compute all measures of one triple of classes, named without the number that tells several triples apart."""
    plane = geometry.plane_through(corners)
    at = geometry.project(plane, corners)
    values: dict[str, float] = {}
    curves: dict[str, list[float]] = {"plane_classes": ids.tolist()}
    curves["plane_template_x"], curves["plane_template_y"] = at.T.tolist()
    for name, split in shown.items():
        match = split.labels.unsqueeze(1) == ids
        mine = match.any(dim=1)
        labels, features = match[mine].int().argmax(dim=1), activations[name][mine]
        points = geometry.project(plane, with_one(features))
        by_class = geometry.compactness(points, labels)
        values[f"compactness_{name}"] = by_class.mean().item()
        values[f"scatter_{name}"] = geometry.scatter_ratio(features, labels)
        values[f"imbalance_{name}"] = geometry.distance_imbalance(points, at, labels)
        values[f"irregularity_{name}"] = geometry.triangle_irregularity(points, labels)
        values[f"class_distance_{name}"] = geometry.class_distance(points, labels)
        curves[f"compactness_by_class_{name}"] = by_class.tolist()
        curves[f"plane_{name}_x"], curves[f"plane_{name}_y"] = points.T.tolist()
        curves[f"plane_{name}_class"] = labels.tolist()
    # A measure that is not defined is left out, as everywhere in the analysis.
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return Measured(finite, {name: [float(value) for value in curve] for name, curve in curves.items()})


def _renamed(measured: Measured, suffix: str) -> Measured:
    values = {name + suffix: value for name, value in measured.values.items()}
    return Measured(values, {name + suffix: curve for name, curve in measured.curves.items()})


def _write_projector(
    folder: Path,
    dataset: Dataset,
    activations: dict[str, Float32[Tensor, "n d"]],
    shown: dict[str, _Shown],
) -> None:
    """Write activations with class, split and image of each, for TensorBoard's Embedding Projector."""
    metadata = [
        [dataset.classes[label], split.origin] for split in shown.values() for label in split.labels.tolist()
    ]
    with summary_writer(folder) as writer:
        writer.add_embedding(
            torch.cat(list(activations.values())),
            metadata=metadata,
            metadata_header=["class", "split"],
            label_img=_sprites(torch.cat([split.images for split in shown.values()])),
            tag="penultimate",
        )


def _sprites(images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n 3 s s"]:
    """Make square RGB thumbnails in 0..1, the form that TensorBoard's Embedding Projector takes.

    Images are padded with black, and shrunk where they are large. Images with other than three channels are shown
    in grey, by their mean.
    """
    pictures = images.float() / 255
    if pictures.shape[1] != 3:
        pictures = pictures.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    height, width = pictures.shape[2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    pictures = F.pad(pictures, (left, side - width - left, top, side - height - top))
    return pictures if side <= _SPRITE_SIDE else F.interpolate(pictures, (_SPRITE_SIDE,) * 2, mode="area")
