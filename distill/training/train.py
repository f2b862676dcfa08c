"""Train a network, and store its weights, its predictions and warnings about its label smoothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file, save_model
from torch import nn

from distill.config import StudentConfig, TeacherConfig
from distill.data.batch_share import BatchShare
from distill.data.loader import Join, Loader
from distill.data.network_input import NetworkInput
from distill.data.sets.dataset import Dataset, Split
from distill.errors import Diverged, UserError
from distill.losses import FromTeacher, Loss
from distill.metrics.accuracy import agreement
from distill.metrics.measures import BY_NAME, compute, defined
from distill.metrics.monitor import calibration_figure, confidence_figure, evaluation_measures
from distill.metrics.positions import counted
from distill.metrics.smoothing_warnings import mixed_labels, no_effect, under_confidence
from distill.models import build_model, check_model
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.outcome import Outcome
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.training.beginning import begin_with, other_size
from distill.training.loop import fit
from distill.training.network import PREDICTIONS, WARNINGS, WEIGHTS, load_predictions
from distill.training.notices import Notices
from distill.training.predict import predict
from distill.training.seeds import reproducible
from distill.training.tracking import MetricWriter, read_metrics

if TYPE_CHECKING:
    from torch import Tensor

    Predictions = Mapping[str, tuple[Tensor, Tensor]]
    """Split → logits and labels."""

_VARIANCES = [BY_NAME["interclass_variance"], BY_NAME["interclass_variance_relative"]]


def train_network(
    config: TeacherConfig | StudentConfig,
    dataset: Dataset,
    loader: Loader,
    loss: Loss,
    folder: Path,
    runtime: Runtime,
    teacher: Join[FromTeacher] | None = None,
    targets: Mapping[str, float] | None = None,
    taught_by: Artifact | None = None,
    begins_with: Artifact | None = None,
) -> Outcome:
    """Train the network of `config`, and store its weights and its predictions in `folder`.

    The test set is read once, after the last step. Measures during training are of the held-out split. Measures of
    the soft targets (`targets`) are logged before the first step and stored in the record. Agreement with the
    network that it was taught by (`taught_by`) is logged, if that still has its predictions. The training begins
    with the weights of the network `begins_with`, if there is one.

    Warnings about label smoothing go to TensorBoard's text `warnings` and to the file `WARNINGS`. Where progress is
    shown (not in a pool of stages) they are printed on stderr too.
    """
    # Ranks that share a part take the statistics of batch norm together.
    single = loader.smallest == 1 and not BatchShare.here(config.schedule.parts).shared
    check_model(config.model, dataset.num_classes, dataset.shape, dataset.label_shape, single)
    device = runtime.torch_device()
    of_targets = {f"targets/{name}": value for name, value in (targets or {}).items()}
    takes = NetworkInput(dataset.mean, dataset.std, dataset.shape)
    held_out, notices = evaluation(dataset, dataset.held_out, takes, device), Notices(runtime.progress)
    notices.keep(mixed_labels(config, dataset.num_classes))
    with reproducible(config.seed):
        model, about = _initial(config, dataset, begins_with, notices, runtime)
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
            notices=notices,
            data=dataset.fingerprint,
        )

    def store() -> Outcome:
        steps = len(loader) * config.schedule.epochs
        predictions = {"held_out": held_out(model), "test": evaluation(dataset, dataset.test, takes, device)(model)}
        if not all(torch.isfinite(logits).all() for logits, _ in predictions.values()):
            raise Diverged(steps, config.optim.lr, math.nan)
        metrics = measured(predictions) | of_targets
        shown = {name: value for name, value in metrics.items() if name.startswith("test/")}
        of_test = shown | _of_test(*predictions["test"], taught_by)
        _finish_log(config, predictions, of_test, notices, steps, folder)
        _save(model, predictions, notices, folder)
        return Outcome(metrics, dataset.identity() | about)

    return ranks.on_first(store)


def _initial(
    config: TeacherConfig | StudentConfig,
    dataset: Dataset,
    begins_with: Artifact | None,
    notices: Notices,
    runtime: Runtime,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network on its device with its initial weights, and what a record says of those it was given."""
    model, about = build_model(config.model, dataset.num_classes, dataset.shape), {}
    if begins_with is not None:
        notices.keep(other_size(begins_with, dataset))
        about["init"] = begin_with(model, config.model, dataset, begins_with)
    model = model.to(runtime.torch_device())
    if runtime.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model, about


def measured(predictions: Predictions) -> dict[str, float]:
    """Measure the predictions of each split: split/measure → value."""
    return {
        f"{split}/{measure}": value
        for split, (logits, labels) in predictions.items()
        for measure, value in evaluation_measures(logits, labels).items()
    }


def evaluation(
    dataset: Dataset, split: Split, takes: NetworkInput, device: str
) -> Callable[[nn.Module], tuple[Tensor, Tensor]]:
    """Return a function from a model to its logits and the labels on a split, without ignored positions."""
    split, normalise = takes.seen_of(split), takes.normaliser(device)
    none = torch.empty(0, *dataset.label_shape, len(dataset.classes))
    return lambda model: counted(
        predict(model, split.images, normalise, device) if len(split) else none, split.labels
    )


def _of_test(logits: Tensor, labels: Tensor, taught_by: Artifact | None) -> dict[str, float]:
    """Measure on the test set what only the HParams table shows."""
    values = {}
    if len(labels):
        values = defined(compute(_VARIANCES, logits=logits, labels=labels, temperature=1.0))
    with suppress(UserError):  # a teacher that was deleted or damaged costs only this cell
        if taught_by is not None:
            teachers, same = load_predictions(taught_by, "test")
            values |= {"agreement": agreement(logits, teachers)} if torch.equal(same, labels) else {}
    return {f"test/{name}": value for name, value in values.items()}


def _finish_log(
    config: TeacherConfig | StudentConfig,
    predictions: Predictions,
    of_test: Mapping[str, float],
    notices: Notices,
    step: int,
    folder: Path,
) -> None:
    """Log what is known after the last step: measures of the test set, figures and warnings."""
    points = read_metrics(folder)
    late = notices.keep(no_effect(points), under_confidence(config, *predictions["held_out"], key(config)[:8]))
    with MetricWriter(folder, step) as writer:
        writer.charts(step, of_test)
        writer.figure(step, "test/reliability", calibration_figure(*predictions["test"]))
        if bounded := [point for point in points if "train/confidence_ceiling" in point]:
            # `train/confidence` is a scalar already: TensorBoard shows only the first kind of data under a name.
            writer.figure(step, "train/confidence_curve", confidence_figure(bounded))
        for notice in late:
            writer.text(step, "warnings", notice.text)


def _save(model: nn.Module, predictions: Predictions, notices: Notices, folder: Path) -> None:
    """Write weights, predictions and, where there are any, warnings."""
    if texts := {notice.kind: notice.text for notice in notices.kept}:
        (folder / WARNINGS).write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_model(model.to(memory_format=torch.contiguous_format), str(folder / WEIGHTS))  # pyright: ignore[reportCallIssue]
    save_predictions(predictions, folder)


def save_predictions(predictions: Predictions, folder: Path) -> None:
    """Write the logits and the labels of each split."""
    tensors = {}
    for split, (logits, labels) in predictions.items():
        tensors |= {f"{split}.logits": logits, f"{split}.labels": labels.clone()}
    save_file(tensors, str(folder / PREDICTIONS))
