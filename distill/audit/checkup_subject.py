"""Find the logits and labels that a check-up measures: of an artifact, a file of weights, or a file of logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from distill.cache import LogitCache
from distill.cache.foreign import SUFFIXES, ArrayFile
from distill.config import AdoptFlags, DataConfig, ModelConfig
from distill.data.network_input import NetworkInput
from distill.data.sets.load import load
from distill.errors import UserError
from distill.pipeline.adopting import adopt
from distill.store.artifact import Artifact
from distill.store.store import ArtifactStore
from distill.system.files import expanded
from distill.system.reading import map_array
from distill.system.runtime import Runtime
from distill.training.network import load_network, load_predictions, network_config, training_data
from distill.training.train import evaluation

WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
Split = Literal["held_out", "test", "train"]
_SPOKEN = {"held_out": "held-out", "test": "test", "train": "training"}


class Given(NamedTuple):
    """Hold what the user says about a teacher from elsewhere, and which images are wanted."""

    model: ModelConfig
    data: DataConfig
    labels: Path | None
    split: Split


@dataclass(frozen=True)
class Subject:
    """Hold the logits and labels of one teacher, and what is known of it."""

    given: str
    """Path or key that the user wrote."""
    name: str
    images: str
    """The images in words."""
    logits: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    training_images: int | None
    artifact: Artifact | None


def find(text: str, given: Given, store: ArtifactStore, runtime: Runtime) -> Subject:
    """Find a teacher by its name on the command line; a file of weights is adopted first.

    Raises:
        UserError: there is none, or its logits and labels cannot be measured.
    """
    path = expanded(Path(text))
    if path.is_file() and path.suffix in SUFFIXES and path.suffix not in WEIGHTS:
        return _of_file(text, path, given, runtime)
    if path.is_file() and path.suffix in WEIGHTS:
        artifact = adopt(path, store, runtime, AdoptFlags(model=given.model, data=given.data))
    else:
        artifact = store.resolve(text)
    return _of_artifact(text, artifact, given.split, runtime)


def _of_artifact(text: str, artifact: Artifact, split: Split, runtime: Runtime) -> Subject:
    """Take stored predictions; of training images, or of a cache, make or read the logits."""
    if artifact.config.stage == "cache":
        cache = LogitCache(artifact)
        dataset = load(cache.config.transfer_set, runtime.data_root, runtime.progress)
        logits, labels = cache.logits(torch.arange(len(cache))).float(), dataset.train.labels
        split, count, classes = "train", len(cache), dataset.classes
    else:
        network_config(artifact)
        classes, count = tuple(artifact.data["classes"]), artifact.data["sizes"]["train"]
        if split == "train":
            dataset, device = training_data(artifact, runtime), runtime.torch_device()
            answers = evaluation(dataset, dataset.train, NetworkInput.of(artifact.data), device)
            logits, labels = answers(load_network(artifact, device))
        else:
            logits, labels = load_predictions(artifact, split)
    _check(logits, labels, text)
    images = f"{len(labels):,} {_SPOKEN[split]} images of {artifact.data.get('name', 'its transfer set')}"
    return Subject(text, artifact.path.name, images, logits.cpu(), labels.cpu(), classes, count, artifact)


def _of_file(text: str, path: Path, given: Given, runtime: Runtime) -> Subject:
    """Read a file of logits, and its labels from a file, or from the data set that it belongs to."""
    array = ArrayFile(path)
    rows, views, columns = array.shape
    if views != 1:
        expected = "[rows, classes]: one view"
        raise UserError("logits", f"{path.name} of {views} views", expected, "Cut out one view.")
    logits = torch.from_numpy(array.read(torch.arange(rows).numpy(), 0))
    beside = given.labels or path.with_name("labels.npy")
    classes, count = tuple(map(str, range(columns))), None
    if given.labels or beside.is_file():
        if not beside.is_file():
            raise UserError("labels", str(beside), "a file of labels (.npy)", "Check the path.")
        stored = map_array(expanded(beside))
        if stored.ndim != 1 or stored.dtype.kind not in "iu":
            value = f"{beside.name} of shape {list(stored.shape)} of {stored.dtype}"
            raise UserError("labels", value, "whole numbers of shape [rows]", "Store one class per row.")
        labels, images = torch.from_numpy(stored.astype("int64")), f"rows of {path.name}, labels of {beside.name}"
    else:
        dataset = load(given.data, runtime.data_root, runtime.progress)
        split = getattr(dataset, given.split)
        if len(split) != rows:
            value = f"no labels for {rows:,} rows; {dataset.name} has {len(split):,} {_SPOKEN[given.split]} images"
            raise UserError(
                "labels", value, "a label for each row", "Give `labels`, or another `data.name` and `split`."
            )
        labels, count = split.labels, len(dataset.train)
        images = f"{_SPOKEN[given.split]} images of {dataset.name}"
        classes = dataset.classes if len(dataset.classes) == columns else classes
    _check(logits, labels, text)
    return Subject(text, path.name, f"{rows:,} {images}", logits, labels, classes, count, None)


def _check(logits: Tensor, labels: Tensor, text: str) -> None:
    """Refuse logits and labels that do not belong together, or say nothing.

    Raises:
        UserError: always, with the reason, where something is wrong.
    """
    if labels.ndim != 1 or logits.ndim != 2 or len(labels) != len(logits):
        value = f"{text}: {list(logits.shape)} and {list(labels.shape)}"
        raise UserError("labels", value, "logits [rows, classes] and a label for each row", "Give as many labels.")
    if not len(labels):
        raise UserError("split", f"{text} has none", "one image or more", "Choose another `split`.")
    if logits.shape[1] < 2:
        raise UserError("logits", f"{text}: one class", "two classes or more", "Give a logit per class.")
    if not torch.isfinite(logits).all():
        raise UserError("logits", f"{text}: NaN or infinite", "finite numbers", "Drop what diverged.")
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        value = f"{text}: {int(labels.min())} to {int(labels.max())}"
        raise UserError("labels", value, f"classes 0 to {logits.shape[1] - 1}", "Check their order.")
    if int(labels.min()) == int(labels.max()):
        raise UserError(
            "labels", f"{text}: all {int(labels.min())}", "images of two classes or more", "Give others."
        )
