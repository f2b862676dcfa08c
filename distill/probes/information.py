"""Measure the mutual information between an image and a difference of two logits, along training.

Source: Müller et al. 2019, Fig. 6.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from distill.config import AugmentConfig, InformationProbe, StudentConfig
from distill.data.sets.dataset import Dataset
from distill.data.views.views import Views
from distill.errors import UserError
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.metrics.mutual_information import collapsed_information, mutual_information
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_network, network_config, snapshot_steps, training_data
from distill.training.predict import inference_batch
from distill.training.tracking import summary_writer

_TOPIC = Topic("Mutual information")
MEASURES = tuple(
    Measure(f"information_{name}", heading, "nats", 3, _TOPIC, what=what, source=source)
    for name, heading, what, source in (
        ("first", "start", "with the initial weights", ""),
        ("early", "early", "mean over the first quarter of training", ""),
        ("late", "late", "mean over the last quarter of training", ""),
        ("peak", "peak", "the largest along training", ""),
        ("final", "end", "at the end of training", "Müller et al. 2019, Fig. 6"),
        ("drop", "drop", "early less late", ""),
        ("floor", "collapsed", "what two collapsed classes would give", "this project"),
        ("log_n", "log N", "the largest possible value", ""),
    )
)


def probe_information(config: InformationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure I(X;Y) of every snapshot, with X one of N training images and Y the difference of two logits.

    Images are of two classes, and Y is the difference of their logits. Every snapshot and every network sees the
    same views of the same images: the first of each class in the training split, in evaluation mode.

    Args:
        config: which classes, how many images and views.
        network: artifact of a teacher or student that was trained with snapshots.
        runtime: device and data root.
        log: TensorBoard folder; this network gets a folder in it.

    Returns:
        Values, all in nats and each with the prefix `information_`:

        - first: of the initial weights.
        - early: mean over the first quarter of the snapshots, without the initial weights.
        - late: mean over the last quarter.
        - drop: early - late.
        - final: of the last weights.
        - peak: the largest along training. A maximum of noisy numbers is larger than what follows even where
          nothing falls; early and late avoid this bias, as means over fixed stretches.
        - floor: what collapsed classes give on average with as many images and views (`collapsed_information`).
        - log_n: log N, the largest value that there can be.

        Curves: `information_step`, numbers of updates, and `information`, which is written to TensorBoard too.

    Raises:
        UserError: the network kept no snapshots, its images are shown in one way only, or the classes are not two
            of the data set that have images.
    """
    steps, augment = _steps(network), _augment(network)
    dataset = training_data(network, runtime)
    index = _images_of(dataset, config)
    views = _views(dataset, augment, index, config, runtime)
    found = []
    for step in steps:
        values = _differences(load_network(network, runtime.torch_device(), step), views, config.classes)
        found.append(mutual_information(values[:, -1], values[:, :-1]))
    _write(steps, found, log / network.path.name)
    return _measured(steps, found, len(index), config.draws)


def final_information(config: InformationProbe, network: Artifact, runtime: Runtime) -> dict[str, float]:
    """Measure I(X;Y) at the end of training, for any network whose images have views; snapshots are not needed.

    Args:
        config: which classes, how many images and views.
        network: artifact of a teacher or student.
        runtime: device and data root.

    Returns:
        `information_final`, `information_floor` and `information_log_n`, as `probe_information` has them.

    Raises:
        UserError: images are shown in one way only, or the classes are not two of the data set that have images.
    """
    augment, dataset = _augment(network), training_data(network, runtime)
    index = _images_of(dataset, config)
    views = _views(dataset, augment, index, config, runtime)
    values = _differences(load_network(network, runtime.torch_device()), views, config.classes)
    return {
        "information_final": mutual_information(values[:, -1], values[:, :-1]),
        "information_floor": collapsed_information(len(index), config.draws),
        "information_log_n": math.log(len(index)),
    }


def _steps(network: Artifact) -> list[int]:
    steps = snapshot_steps(network)
    if len(steps) < 2:
        way_out = "Train it with --snapshots 16."
        raise UserError("snapshots", network_config(network).snapshots, "a network that kept some", way_out)
    return steps


def _augment(network: Artifact) -> AugmentConfig:
    """Return the augmentation that the network was trained with."""
    config = network_config(network)
    cache = config.cache if isinstance(config, StudentConfig) else None
    augment = cache.augment if cache else config.augment
    if augment == AugmentConfig():
        expected = "some, since the views of an image are what is random about its logits"
        raise UserError("augment", "none", expected, "Train it with --augment.pad or --augment.flip.")
    return augment


def _images_of(dataset: Dataset, config: InformationProbe) -> Int64[Tensor, " n"]:
    """Return indices of the first training images of each of the two classes.

    A class with fewer images than asked for gives all of them.
    """
    labels = dataset.train.labels
    rows = [(labels == cls).nonzero().squeeze(1)[: config.per_class] for cls in config.classes]
    if config.classes[0] == config.classes[1] or not all(map(len, rows)):
        way_out = f"Classes are numbered in this order: {', '.join(dataset.classes)}."
        raise UserError("probe.classes", config.classes, "two classes that have training images", way_out)
    return torch.cat(rows)


def _views(
    dataset: Dataset, augment: AugmentConfig, index: Int64[Tensor, " n"], config: InformationProbe, runtime: Runtime
) -> list[list[Float[Tensor, "b c h w"]]]:
    """Render normalised views on the device, once for all snapshots: one list of batches per view number."""
    device = runtime.torch_device()
    views = Views.of_training(dataset, augment, config.view_seed, device, runtime.channels_last)
    parts = index.split(inference_batch(device))
    return [[views.images_of(part, view) for part in parts] for view in range(config.draws + 1)]


def _differences(
    model: nn.Module, views: list[list[Float[Tensor, "b c h w"]]], classes: tuple[int, int]
) -> Float[Tensor, "n views"]:
    """Return the logit of the first class minus that of the second, in float64."""
    first, second = classes
    with torch.inference_mode():
        logits = [torch.cat([model(part) for part in parts]).cpu().double() for parts in views]
    return torch.stack([of_view[:, first] - of_view[:, second] for of_view in logits], dim=1)


def _write(steps: list[int], information: list[float], folder: Path) -> None:
    with summary_writer(folder) as writer:
        for step, value in zip(steps, information, strict=True):
            writer.add_scalar("information", value, step)


def _measured(steps: list[int], information: list[float], images: int, draws: int) -> Measured:
    first, *trained = information
    quarter = max(1, len(trained) // 4)
    early, late = sum(trained[:quarter]) / quarter, sum(trained[-quarter:]) / quarter
    values = {
        "first": first,
        "early": early,
        "late": late,
        "drop": early - late,
        "final": trained[-1],
        "peak": max(information),
        "floor": collapsed_information(images, draws),
        "log_n": math.log(images),
    }
    curves = {"information_step": [float(step) for step in steps], "information": information}
    return Measured({f"information_{name}": value for name, value in values.items()}, curves)
