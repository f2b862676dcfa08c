"""Measure the mutual information between an image and a difference of two logits, along training.

Source: Müller et al. 2019, Fig. 6.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill.config import AugmentConfig, InformationProbe, StudentConfig
from distill.data.views.views import Views
from distill.errors import UserError
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.metrics.mutual_information import collapsed_information, mutual_information, printed_information
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
        # A maximum of noisy numbers is larger than what follows even where nothing falls. Early and late avoid
        # this bias, as means over fixed stretches.
        ("peak", "peak", "the largest along training", ""),
        ("final", "end", "at the end of training", "Müller et al. 2019, Fig. 6"),
        ("drop", "drop", "early less late", ""),
        (
            "printed",
            "as printed",
            "what the printed formula gives at the end, at most 0",
            "Müller et al. 2019, Fig. 6",
        ),
        ("floor", "collapsed", "what two collapsed classes would give", "this project"),
        ("log_n", "log N", "the largest possible value", ""),
    )
)
_Views = list[list[Float[Tensor, "b c h w"]]]
"""Normalised views on the device: a list of batches per view number."""


def probe_information(config: InformationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Measure I(X;Y) of every snapshot, with X one of N training images and Y the difference of two logits.

    Images are of two classes, and Y is the difference of their logits. Every snapshot and every network sees the
    same views of the same images: the first of each class in the training split, in evaluation mode.

    Returns:
        Values: all of `MEASURES`. The first quarter is of the snapshots without the initial weights.

        Curves: `information_step`, numbers of updates, and `information`, which is written to TensorBoard too.

    Raises:
        UserError: the network kept no snapshots, its images are shown in one way only, or the classes are not two
            of the data set that have images.
    """
    steps = snapshot_steps(network)
    if len(steps) < 2:
        kept = network_config(network).snapshots
        raise UserError("snapshots", kept, "a network that kept some", "Train it with `snapshots=16`.")
    views = _views(config, network, runtime)
    device = runtime.torch_device()
    outputs = [_outputs(load_network(network, device, step), views, config.classes) for step in steps]
    information = [mutual_information(*each) for each in outputs]
    with summary_writer(log / network.path.name) as writer:
        for step, value in zip(steps, information, strict=True):
            writer.add_scalar("information", value, step)
    first, *trained = information
    quarter = max(1, len(trained) // 4)
    early, late = sum(trained[:quarter]) / quarter, sum(trained[-quarter:]) / quarter
    values = {"first": first, "early": early, "late": late, "drop": early - late, "peak": max(information)}
    values |= _at_the_end(outputs[-1])
    curves = {"information_step": [float(step) for step in steps], "information": information}
    return Measured({f"information_{name}": value for name, value in values.items()}, curves)


def final_information(config: InformationProbe, network: Artifact, runtime: Runtime) -> dict[str, float]:
    """Measure I(X;Y) at the end of training, for any network whose images have views; snapshots are not needed.

    Returns:
        `information_final`, `information_printed`, `information_floor` and `information_log_n`, as
        `probe_information` has them.

    Raises:
        UserError: images are shown in one way only, or the classes are not two of the data set that have images.
    """
    views = _views(config, network, runtime)
    final = _outputs(load_network(network, runtime.torch_device()), views, config.classes)
    return {f"information_{name}": value for name, value in _at_the_end(final).items()}


def _views(config: InformationProbe, network: Artifact, runtime: Runtime) -> _Views:
    """Render views of the first training images of the config's two classes, with the augmentation of training.

    A class with fewer images than asked for gives all of them.
    """
    trained = network_config(network)
    cache = trained.cache if isinstance(trained, StudentConfig) else None
    augment = cache.augment if cache else trained.augment
    if augment is None or augment == AugmentConfig():
        expected = "some, since the views of an image are what is random about its logits"
        raise UserError("augment", "none", expected, "Train it with `augment.pad=2` or `augment.flip=true`.")
    dataset = training_data(network, runtime)
    labels = dataset.train.labels
    rows = [(labels == cls).nonzero().squeeze(1)[: config.per_class] for cls in config.classes]
    if config.classes[0] == config.classes[1] or not all(map(len, rows)):
        way_out = f"Classes are numbered in this order: {', '.join(dataset.classes)}."
        raise UserError("probe.classes", config.classes, "two classes that have training images", way_out)
    device = runtime.torch_device()
    dataset = dataset.normalised_as(network.data)
    views = Views.of_training(dataset, augment, config.view_seed, device, runtime.channels_last)
    parts = torch.cat(rows).split(inference_batch(device))
    return [[views.images_of(part, view) for part in parts] for view in range(config.draws + 1)]


def _outputs(model: nn.Module, views: _Views, classes: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the first class's logit minus the second's: of one view of each image, and of all its other views."""
    first, second = classes
    with torch.inference_mode():
        logits = [torch.cat([model(part) for part in parts]).cpu().double() for parts in views]
    values = torch.stack([of_view[:, first] - of_view[:, second] for of_view in logits], dim=1)
    return values[:, -1], values[:, :-1]


def _at_the_end(outputs: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return the mutual information after training, beside what is printed, its value for collapsed classes and its
    maximum.
    """
    images, draws = outputs[1].shape
    return {
        "final": mutual_information(*outputs),
        "printed": printed_information(*outputs),
        "floor": collapsed_information(images, draws),
        "log_n": math.log(images),
    }
