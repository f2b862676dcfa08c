"""Compute every measure of dark knowledge and geometry, on training images and on held-out ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from distill.config import KnowledgeProbe
from distill.data.sets.dataset import Dataset, Split
from distill.errors import UserError
from distill.metrics.dark_knowledge import class_similarity
from distill.metrics.measured import Measured
from distill.metrics.measures import Topic, compute, defined, of_kind
from distill.probes.outputs import activations_of
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import training_data
from distill.training.predict import inference_batch
from distill.training.tracking import summary_writer

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, Int64
    from torch import Tensor, nn

_TOPIC = Topic("Knowledge and geometry, training and held-out images")
_IN_TABLE = {
    ("bits_beyond_top1", "held_out"),
    *(
        (name, "train")
        for name in (
            "conditional_mutual_information",
            "nontarget_entropy",
            "aggregated_variance",
            "class_separation",
            "within_class_collapse",
            "equiangular_distance",
            "duality_distance",
            "nearest_centre_agreement",
        )
    ),
}
MEASURES = tuple(
    replace(
        each,
        name=f"{each.name}_{split}",
        heading=f"{each.heading}, {words}",
        topic=_TOPIC if (each.name, split) in _IN_TABLE else None,
        stands_alone=False,
    )
    for each in of_kind("knowledge", "features")
    for split, words in (("train", "train"), ("held_out", "held out"))
)
"""Every measure of one network's logits and features, on training and on held-out images; the table shows a few."""
_NAMED = 30
"""Largest number of classes whose names a picture has room for."""
# The matrix has the square of this many numbers.
CLASSES_SHOWN = 200
"""Largest number of classes whose similarity matrix is kept and drawn."""


class Outputs(NamedTuple):
    """Hold the outputs of a network for the images of one split."""

    logits: Float32[Tensor, "n k"]
    features: Float32[Tensor, "n d"]
    """Penultimate activations of the images."""
    labels: Int64[Tensor, " n"]


def probe_knowledge(config: KnowledgeProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Compute all measures of the logits and of the penultimate activations, on un-augmented images.

    Returns:
        Values: `<name>_train` and `<name>_held_out` for each measure, the latter only with held-out images.
        Measures of soft targets are at the temperature asked for; a measure that is not defined is left out. On
        images that the network was trained on, the bits (`bits_*_train`) say little: bits ask what a network knows
        of labels that it has not seen.

        Curves: `class_similarity_train`, the rows of `dark_knowledge.class_similarity` one after another (0 in the
        row of a class without images), for at most 200 classes. The matrix is drawn to TensorBoard too.

    Raises:
        UserError: as `outputs`.
    """
    by_split, weight, classes = outputs(config, network, runtime)
    values = {
        f"{name}_{split}": value
        for split, given in by_split.items()
        for name, value in measures_of(given, weight, config.temperature).items()
    }
    curves = {}
    if len(classes) <= CLASSES_SHOWN:
        similarity = class_similarity(by_split["train"].logits, by_split["train"].labels, config.temperature)
        curves["class_similarity_train"] = torch.nan_to_num(similarity).flatten().tolist()
        _write(similarity, classes, log / network.path.name)
    return Measured(values, curves)


def outputs(
    config: KnowledgeProbe, network: Artifact, runtime: Runtime, dataset: Dataset | None = None
) -> tuple[dict[str, Outputs], Float32[Tensor, "k d"], tuple[str, ...]]:
    """Compute logits and features of training and held-out images in one forward pass, each image as it is stored.

    Args:
        config: largest number of images of each split, evenly spread over it.
        network: artifact of a teacher or a student.
        runtime: device and data root.
        dataset: data set of the images; None takes the one that the network was trained on.

    Returns:
        Outputs of `train`, and of `held_out` if any image is held out; the weights of the last layer, without its
        biases, on the CPU; and the names of the classes.

    Raises:
        UserError: the data set is not the one that the network was trained on or has a label per position, or the
            network does not end in a linear layer.
    """
    if dataset is None:
        dataset = training_data(network, runtime)
    if dataset.label_shape:
        expected = "images with one label each"
        raise UserError("data", dataset.name, expected, "Penultimate activations of sentences are not measured.")
    splits = {"train": dataset.train, "held_out": dataset.held_out}
    parts = {name: spread(split, config.images) for name, split in splits.items() if len(split)}
    head, features = activations_of(network, {name: part.images for name, part in parts.items()}, runtime)
    by_split = {name: Outputs(_logits(head, features[name]), features[name], parts[name].labels) for name in parts}
    return by_split, head.weight.detach().float().cpu(), dataset.classes


def _logits(head: nn.Linear, features: Float32[Tensor, "n d"]) -> Float32[Tensor, "n k"]:
    device = head.weight.device
    with torch.inference_mode():
        parts = [head(part.to(device)).float().cpu() for part in features.split(inference_batch(device.type))]
    return torch.cat(parts)


def spread(split: Split, images: int) -> Split:
    """Return at most `images` samples, spread over a split that may be sorted by class."""
    if len(split) <= images:
        return split
    rows = torch.linspace(0, len(split) - 1, images, dtype=torch.float64).long()
    return split.rows(rows)


def measures_of(outputs: Outputs, weight: Float[Tensor, "k d"], temperature: float) -> dict[str, float]:
    """Compute all measures of logits and of features (`metrics.measures`) that are defined, for one split."""
    given = {**outputs._asdict(), "weight": weight, "temperature": temperature}
    return defined(compute(of_kind("knowledge", "features"), **given))


def _write(similarity: Float[Tensor, "k k"], classes: tuple[str, ...], folder: Path) -> None:
    """Write the similarity matrix to TensorBoard as a picture."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(similarity_figure(similarity, classes))
    canvas.draw()
    with summary_writer(folder) as writer:
        writer.add_image("class_similarity", np.asarray(canvas.buffer_rgba())[..., :3], dataformats="HWC")


def similarity_figure(similarity: Float[Tensor, "k k"], classes: tuple[str, ...]) -> Any:
    """Draw class similarity as a matplotlib figure: a row per class of the label, a column per incorrect class.

    The row of a class without samples is white.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    shown = similarity.clone().fill_diagonal_(math.nan)
    image = axes.imshow(shown.numpy(), vmin=0, cmap="viridis")
    figure.colorbar(image, ax=axes, label="mean share of the non-target mass", shrink=0.85)
    axes.set(xlabel="incorrect class", ylabel="class of the label")
    if len(classes) <= _NAMED:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
    return figure
