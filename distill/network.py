"""A trained network on disk: how it is made, its weights, its predictions, and how it is loaded again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file, save_model
from torch import nn

from distill import ranks
from distill.artifact import Artifact, key
from distill.config import StudentConfig, TeacherConfig
from distill.data.datasets import Dataset, Split, load
from distill.data.loader import Join, Loader, Normaliser
from distill.data.tokens import IGNORED
from distill.errors import Diverged, UserError
from distill.losses import Loss
from distill.metrics.monitor import calibration_figure, confidence_figure, evaluation_measures
from distill.metrics.positions import counted
from distill.metrics.smoothing_warnings import Notice, mixed_labels, no_effect, not_used, under_confidence
from distill.models import build_model
from distill.models.build import refuse_larger
from distill.reading import check_safetensors, read_tensors
from distill.runtime import Runtime
from distill.tracking import MetricWriter, read_metrics, warn
from distill.trainer import fit, predict, reproducible, snapshot_file

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

WEIGHTS = "model.safetensors"
PREDICTIONS = "predictions.safetensors"
WARNINGS = "warnings.json"
"""What a user should know of a network, kind → one line; not there when there is nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a stage says of what it wrote: goes into the record."""

    metrics: dict[str, float]
    data: dict[str, Any]


def identity(dataset: Dataset) -> dict[str, Any]:
    """What tells a data set apart, as the record keeps it."""
    labels = dataset.train.labels[dataset.train.labels != IGNORED]
    return {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "shape": list(dataset.shape),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "fingerprint": dataset.fingerprint,
        "sizes": {name: len(getattr(dataset, name)) for name in ("train", "held_out", "test")},
        "priors": (labels.bincount(minlength=len(dataset.classes)) / len(labels)).tolist(),
    }


def train_network(
    config: TeacherConfig | StudentConfig,
    dataset: Dataset,
    loader: Loader,
    loss: Loss,
    folder: Path,
    runtime: Runtime,
    teacher: Join | None = None,
    targets: Mapping[str, float] | None = None,
) -> Outcome:
    """Train the network of `config` and store its weights and its predictions in `folder`.

    The test set is read once, after the last step; the measures during training are on the held-out split.
    `targets` are measures of what it learns from: they are logged before the first step, and go into the record.
    What is wrong with its smoothing is told in TensorBoard's text `warnings`, in `WARNINGS` and, where progress is
    shown, on stderr (in a pool of stages it is not).
    """
    device = runtime.torch_device()
    of_targets = {f"targets/{name}": value for name, value in (targets or {}).items()}
    held_out = _evaluation(dataset, dataset.held_out, device)
    told: dict[str, Notice] = {}

    def tell(notice: Notice) -> None:
        if notice.kind not in told and runtime.progress:
            warn(notice.kind, notice.text)
        told[notice.kind] = notice

    before = _known(not_used(config), mixed_labels(config, len(dataset.classes)))
    for notice in before:
        tell(notice)
    with reproducible(config.seed):
        model = build_model(config.model, len(dataset.classes), dataset.shape).to(device)
        if runtime.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        model = fit(
            model,
            loader,
            loss,
            config,
            folder,
            runtime,
            teacher,
            evaluate=lambda model: evaluation_measures(*held_out(model)),
            at_start=of_targets,
            notices=before,
            tell=tell,
        )

    def write() -> Outcome:
        predictions = {"held_out": held_out(model), "test": _evaluation(dataset, dataset.test, device)(model)}
        if not all(torch.isfinite(logits).all() for logits, _ in predictions.values()):
            raise Diverged(len(loader) * config.schedule.epochs, config.optim.lr, math.nan)
        metrics = {
            f"{name}/{measure}": value
            for name, (logits, labels) in predictions.items()
            for measure, value in evaluation_measures(logits, labels).items()
        }
        metrics |= of_targets
        points = read_metrics(folder)
        after = _known(no_effect(points), under_confidence(config, *predictions["held_out"], key(config)[:8]))
        for notice in after:
            tell(notice)
        _finish_log(config, *predictions["test"], metrics, points, after, loader, folder)
        if found := {notice.kind: notice.text for notice in before + after}:
            (folder / WARNINGS).write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        save_model(model.to(memory_format=torch.contiguous_format), str(folder / WEIGHTS))  # pyright: ignore[reportCallIssue]
        save_file(
            {
                "held_out.logits": predictions["held_out"][0],
                "held_out.labels": predictions["held_out"][1].clone(),
                "test.logits": predictions["test"][0],
                "test.labels": predictions["test"][1].clone(),
            },
            str(folder / PREDICTIONS),
        )
        return Outcome(metrics, identity(dataset))

    return ranks.on_first(write)


def _known(*notices: Notice | None) -> list[Notice]:
    return [notice for notice in notices if notice is not None]


def _evaluation(dataset: Dataset, split: Split, device: str) -> Callable[[nn.Module], tuple[Tensor, Tensor]]:
    """Model → its logits on a split and the labels, of the positions that count."""
    normalise = Normaliser(dataset.mean, dataset.std, device)
    none = torch.empty(0, *dataset.label_shape, len(dataset.classes))
    return lambda model: counted(
        predict(model, split.images, normalise, device) if len(split) else none, split.labels
    )


def _finish_log(
    config: TeacherConfig | StudentConfig,
    logits: Tensor,
    labels: Tensor,
    metrics: dict[str, float],
    points: list[dict[str, float]],
    notices: list[Notice],
    loader: Loader,
    folder: Path,
) -> None:
    step = len(loader) * config.schedule.epochs
    with MetricWriter(folder, step) as writer:
        writer.hparams(config.model_dump(mode="json"), metrics)
        writer.figure(step, "test/reliability", calibration_figure(logits, labels))
        if bounded := [point for point in points if "train/confidence_ceiling" in point]:
            # Not `train/confidence`, which is a scalar: TensorBoard shows only the first kind of a name.
            writer.figure(step, "train/confidence_curve", confidence_figure(bounded))
        for notice in notices:
            writer.text(step, "warnings", notice.text)


def load_network(artifact: Artifact, device: str = "cpu", step: int | None = None) -> nn.Module:
    """The network of a teacher or student artefact, in evaluation mode.

    Args:
        artifact: of a teacher or a student.
        device: where the network shall live.
        step: of a snapshot (`snapshot_steps`); None takes the weights at the end.

    Raises:
        UserError: the artefact holds no network, or not this snapshot, or its weights are damaged.
    """
    config = network_config(artifact)
    if step is not None and step not in snapshot_steps(artifact):
        expected = f"a step whose weights were kept: {snapshot_steps(artifact)}"
        raise UserError("step", step, expected, "Train it with --snapshots.")
    classes, shape = _outline(artifact)
    path = artifact.file(WEIGHTS if step is None else snapshot_file(step))
    refuse_larger(config.model, classes, shape, path.stat().st_size)
    model = build_model(config.model, classes, shape)
    check_safetensors(path)
    try:
        load_model(model, path)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(str(path), reason, f"weights of {config.model.name}", "Train it again.") from error
    return model.to(device).eval()


def _outline(artifact: Artifact) -> tuple[int, tuple[int, int, int]]:
    """Number of classes, and shape of an image, as the record has them."""
    channels, height, width = artifact.data["shape"]
    return len(artifact.data["classes"]), (channels, height, width)


def training_data(artifact: Artifact, runtime: Runtime) -> Dataset:
    """The data set that a network was trained on.

    Raises:
        UserError: it is not there, or other images have its place.
    """
    dataset = load(network_config(artifact).data, runtime.data_root, runtime.progress)
    if artifact.data["fingerprint"] != dataset.fingerprint:
        way_out = "Bring back the data that it was trained on, or train it again."
        raise UserError("data", dataset.name, f"the images that {artifact.path.name} was trained on", way_out)
    return dataset


def snapshot_steps(artifact: Artifact) -> list[int]:
    """Numbers of updates whose weights were kept, ascending, the initial ones first; none without `snapshots`.

    Raises:
        UserError: the artefact is of another stage.
    """
    network_config(artifact)
    return sorted(int(Path(name).stem) for name in artifact.record.files if name.startswith("snapshots/"))


def snapshot_step(artifact: Artifact, part: int) -> int:
    """Number of updates after so many of the equal parts of training that `snapshots` asked for.

    Raises:
        UserError: the network keeps no such snapshot.
    """
    steps, parts = snapshot_steps(artifact), network_config(artifact).snapshots
    if not 0 <= part <= parts or not steps:
        raise UserError("snapshot", part, f"0 to {parts} for this network", "Train it with more --snapshots.")
    return round(part * steps[-1] / parts)


def weights_file(artifact: Artifact, part: int | None) -> str:
    """Name of the file with a network's weights: at the end, or after so many parts of its training."""
    return WEIGHTS if part is None else snapshot_file(snapshot_step(artifact, part))


def network_config(artifact: Artifact) -> TeacherConfig | StudentConfig:
    """The config of a teacher or student.

    Raises:
        UserError: the artefact is of another stage.
    """
    config = artifact.config
    if not isinstance(config, TeacherConfig | StudentConfig):
        way_out = "List them with `distill ls`."
        raise UserError(
            "artefact", str(artifact.path), f"a teacher or a student, this is a {config.stage}", way_out
        )
    return config


def load_predictions(
    artifact: Artifact, split: Literal["test", "held_out"]
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
    """Logits and labels that a network stored at the end of its training.

    Raises:
        UserError: the artefact is of another stage, or its file is damaged.
    """
    network_config(artifact)
    path, logits, labels = artifact.file(PREDICTIONS), f"{split}.logits", f"{split}.labels"
    found = read_tensors(path, {logits: "F32 n k", labels: "I64 n"})
    classes = found[logits].shape[1]
    if len(found[labels]) and not 0 <= int(found[labels].min()) <= int(found[labels].max()) < classes:
        raise UserError(f"{path}, {labels}", "other numbers", f"classes 0 to {classes - 1}", "Train it again.")
    return found[logits], found[labels]


def refuse_no_held_out(network: Artifact, labels: Int64[Tensor, " n"], what: str) -> None:
    """Refuse to fit something on held-out predictions that a network does not have.

    Raises:
        UserError: there is no label.
    """
    if not len(labels):
        value = network_config(network).data.held_out
        expected = f"a share that holds out one image or more, since {what} is fitted on images not trained on"
        raise UserError("data.held_out", value, expected, "Set data.held_out to 0.1, with --data.held-out 0.1.")
