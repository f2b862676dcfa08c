"""Measure what a network answers on training images with wrong labels: the wrong label, or the right class?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.config import MemorisationProbe, StudentConfig
from distill.data.sets.load import load
from distill.metrics.accuracy import accuracy
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.probes.outputs import logits_of
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_predictions, network_config, training_data

if TYPE_CHECKING:
    from jaxtyping import Bool
    from torch import Tensor

_TOPIC = Topic("Wrong labels", ("accuracy", "held_out_accuracy"))
MEASURES = (
    # `held_out_accuracy` is with the labels that the network could be judged by, wrong ones included.
    Measure("held_out_accuracy_clean", "held-out, right labels", "%", 2, _TOPIC, what="by right labels only"),
    Measure("fitted_right", "fitted, right labels", "%", 2, _TOPIC, what="accuracy where the label is right"),
    Measure("memorised", "memorised", "%", 2, _TOPIC, what="of wrong labels, those that the network answers"),
    Measure("recovered", "recovered", "%", 2, _TOPIC, what="of wrong labels, those answered by the right class"),
    Measure("wrong_labels", "wrong labels", "%", 2, _TOPIC, what="share of the training images"),
)


def probe_memorisation(config: MemorisationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Compare a network's answers to training images with the labels that it learned from and with the right ones.

    The images are un-augmented.

    Returns:
        Values: all of `MEASURES`, which are shares. All but `held_out_accuracy_clean` are of training images. A
        value that no image decides is left out: without wrong labels there is no `memorised` and no `recovered`.
        Images of a class that was left out are not counted, since the student was not shown them. Data with a label
        per position have no wrong labels, and nothing is measured.

    Raises:
        UserError: the data set is not the one that the network was trained on.
    """
    dataset = training_data(network, runtime)
    if dataset.label_shape:
        return Measured({}, {})
    trained = network_config(network)
    clean = trained.data.replace(label_noise=0.0, noise="symmetric", noise_seed=0)
    right = load(clean, runtime.data_root, runtime.progress)
    # Classes are left out by the label that is known, right or wrong.
    excluded = trained.exclude_classes if isinstance(trained, StudentConfig) else ()
    shown = ~torch.isin(dataset.train.labels, torch.tensor(excluded, dtype=torch.int64))
    answers = logits_of(network, dataset.train.images, runtime).argmax(1)[shown]
    labels, classes = dataset.train.labels[shown], right.train.labels[shown]
    wrong = labels != classes
    values = {"wrong_labels": _share(wrong)}
    if wrong.any():
        values["memorised"] = _share(answers[wrong] == labels[wrong])
        values["recovered"] = _share(answers[wrong] == classes[wrong])
    if not wrong.all():
        values["fitted_right"] = _share(answers[~wrong] == labels[~wrong])
    held_out, _ = load_predictions(network, "held_out")
    if len(held_out):
        values["held_out_accuracy_clean"] = accuracy(held_out, right.held_out.labels)
    return Measured(values, {})


def _share(hits: Bool[Tensor, " n"]) -> float:
    return float(hits.double().mean())
