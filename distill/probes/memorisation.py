"""Measure what a network answers on training images with wrong labels: the wrong label, or the right class?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from distill.config import MemorisationProbe, StudentConfig, TeacherConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.metrics.accuracy import accuracy
from distill.metrics.measured import Measured
from distill.metrics.measures import Measure, Topic
from distill.store.artifact import Artifact
from distill.system.runtime import Runtime
from distill.training.network import load_network, load_predictions, network_config, training_data
from distill.training.predict import predict

if TYPE_CHECKING:
    from jaxtyping import Bool, Int64
    from torch import Tensor

_TOPIC = Topic("Wrong labels", ("accuracy", "held_out_accuracy"))
MEASURES = (
    Measure("held_out_accuracy_clean", "held-out, right labels", "%", 2, _TOPIC),
    Measure("fitted_right", "fitted, right labels", "%", 2, _TOPIC),
    Measure("memorised", "memorised", "%", 2, _TOPIC),
    Measure("recovered", "recovered", "%", 2, _TOPIC),
    Measure("wrong_labels", "wrong labels", "%", 2, _TOPIC),
)


def probe_memorisation(config: MemorisationProbe, network: Artifact, runtime: Runtime, log: Path) -> Measured:
    """Compare a network's answers to training images with the labels that it learned from and with the right ones.

    The images are un-augmented.

    Args:
        config: config of the probe.
        network: artifact of a teacher or a student.
        runtime: device and data root.

    Returns:
        Values, all shares:

        - `wrong_labels`: share of the training images whose label is wrong.
        - `memorised`: share of the wrongly labelled images for which the network answers the wrong label.
        - `recovered`: share of the wrongly labelled images for which the network answers the right class.
        - `fitted_right`: accuracy on the training images whose label is right.
        - `held_out_accuracy_clean`: accuracy on held-out images with their right labels. `held_out_accuracy` is
          with the labels that the network could be judged by, wrong ones included.

        A value that no image decides is left out: without wrong labels there is no `memorised` and no `recovered`.
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
    shown = _shown(trained, dataset)
    answers = _answers(network, dataset, runtime)[shown]
    values = _of_training(answers, dataset.train.labels[shown], right.train.labels[shown])
    held_out, _ = load_predictions(network, "held_out")
    if len(held_out):
        values["held_out_accuracy_clean"] = accuracy(held_out, right.held_out.labels)
    return Measured(values, {})


def _shown(config: TeacherConfig | StudentConfig, dataset: Dataset) -> Bool[Tensor, " n"]:
    """Tell which training images the network learned from."""
    # Classes are left out by the label that is known, right or wrong.
    excluded = config.exclude_classes if isinstance(config, StudentConfig) else ()
    return ~torch.isin(dataset.train.labels, torch.tensor(excluded, dtype=torch.int64))


def _answers(network: Artifact, dataset: Dataset, runtime: Runtime) -> Int64[Tensor, " n"]:
    device = runtime.torch_device()
    normalise = Normaliser(dataset.mean, dataset.std, device)
    return predict(load_network(network, device), dataset.train.images, normalise, device).argmax(1)


def _of_training(
    answers: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], right: Int64[Tensor, " n"]
) -> dict[str, float]:
    wrong = labels != right
    found = {"wrong_labels": _share(wrong)}
    if wrong.any():
        found["memorised"] = _share(answers[wrong] == labels[wrong])
        found["recovered"] = _share(answers[wrong] == right[wrong])
    if not wrong.all():
        found["fitted_right"] = _share(answers[~wrong] == labels[~wrong])
    return found


def _share(hits: Bool[Tensor, " n"]) -> float:
    return float(hits.double().mean())
